//! SM2 (GB/T 32918): signatures with SM3 (part 2), public-key encryption (part 4) and the shared
//! point of a key agreement, on the curve of part 5.
//!
//! aws-lc has none of it; the crate `sm2` does. It wipes a secret key that is dropped, but not the
//! copies of the scalar that its operations make: these are on the stack, which is overwritten.

use crate::crypto::secret::SecretBytes;
use crate::crypto::stack;
use getrandom::SysRng;
use sm2::dsa::signature::hazmat::{PrehashVerifier, RandomizedPrehashSigner};
use sm2::dsa::signature::{RandomizedSigner, Verifier};
use sm2::dsa::{Signature, SigningKey, VerifyingKey};
use sm2::elliptic_curve::Generate;
use sm2::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use sm2::pke::{DecryptingKey, EncryptingKey};
use sm2::{PublicKey, SecretKey};
use zeroize::Zeroizing;

/// The distinguishing identifier that is hashed before each message with the signer's public key:
/// the one that AWS KMS fixes, and the default of GB/T 35276.
const DISTINGUISHING_ID: &str = "1234567812345678";
/// Bytes of SM3's output.
pub const DIGEST_BYTES: usize = 32;
/// The longest plaintext of public-key encryption (AWS KMS API reference, `Encrypt`).
pub const PLAINTEXT_BYTES_MAX: usize = 1024;

/// An operation of SM2 failed: of a wrong key, signature or ciphertext, or of the operating
/// system's entropy.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("SM2 failed")]
pub struct Sm2Error;

/// A private key, which is wiped when it is dropped. No `Debug` and no `Clone`: see WIPE-1.
pub struct Sm2Key(Box<SecretKey>);

impl Sm2Key {
    /// Draws a new key.
    ///
    /// # Errors
    /// [`Sm2Error`], when the operating system's entropy fails.
    pub fn generate() -> Result<Self, Sm2Error> {
        let drawn = stack::wiped(|| SecretKey::try_generate_from_rng(&mut SysRng).map(Box::new));
        drawn.map(Self).map_err(|_| Sm2Error)
    }

    /// Reads a key in PKCS#8 DER, version 1.
    ///
    /// # Errors
    /// [`Sm2Error`], also when it holds the public key of another key.
    pub fn read(der: &[u8]) -> Result<Self, Sm2Error> {
        let read = stack::wiped(|| SecretKey::from_pkcs8_der(der).map(Box::new));
        read.map(Self).map_err(|_| Sm2Error)
    }

    /// PKCS#8 DER, version 1, with the public key and without repeated parameters.
    ///
    /// # Errors
    /// [`Sm2Error`]
    pub fn to_der(&self) -> Result<SecretBytes, Sm2Error> {
        let der = stack::wiped(|| self.0.to_pkcs8_der());
        der.map(|der| SecretBytes::copy_of(der.as_bytes()))
            .map_err(|_| Sm2Error)
    }

    /// The public key: `SubjectPublicKeyInfo`, DER.
    ///
    /// # Errors
    /// [`Sm2Error`]
    pub fn public_der(&self) -> Result<Box<[u8]>, Sm2Error> {
        let public = stack::wiped(|| self.0.public_key());
        let der = public.to_public_key_der();
        der.map(|der| der.as_bytes().into()).map_err(|_| Sm2Error)
    }

    /// Signs a message, in DER.
    ///
    /// # Errors
    /// [`Sm2Error`], when the operating system's entropy fails.
    pub fn sign(&self, message: Message<'_>) -> Result<Vec<u8>, Sm2Error> {
        let signature: Result<Signature, _> = stack::wiped(|| {
            let key = SigningKey::new(DISTINGUISHING_ID, &self.0)?;
            // Derived from key and message (RFC 6979), hedged by what is drawn.
            match message {
                Message::Raw(message) => key.try_sign_with_rng(&mut SysRng, message),
                Message::Digest(digest) => key.sign_prehash_with_rng(&mut SysRng, digest),
            }
        });
        let der = signature.map(|signature| signature.to_der().as_bytes().to_vec());
        der.map_err(|_| Sm2Error)
    }

    /// Opens a ciphertext in the DER of GB/T 35276 (GM/T 0009): `SEQUENCE { x, y, C3, C2 }`.
    ///
    /// # Errors
    /// [`Sm2Error`], whatever the reason; also for a plaintext of a length that [`encrypt`]
    /// refuses.
    pub fn decrypt(&self, ciphertext: &[u8]) -> Result<SecretBytes, Sm2Error> {
        let opened = stack::wiped(|| DecryptingKey::new((*self.0).clone()).decrypt_der(ciphertext));
        let plaintext = opened.map(Zeroizing::new).map_err(|_| Sm2Error)?;
        match plaintext.len() {
            1..=PLAINTEXT_BYTES_MAX => Ok(SecretBytes::copy_of(&plaintext)),
            _ => Err(Sm2Error),
        }
    }

    /// The x coordinate of the point that is shared with the holder of the private key of `public`,
    /// a `SubjectPublicKeyInfo` in DER: 32 bytes, as for the NIST curves (SP 800-56A).
    ///
    /// # Errors
    /// [`Sm2Error`], when `public` is not a point of the curve.
    pub fn agree(&self, public: &[u8]) -> Result<SecretBytes, Sm2Error> {
        let public = PublicKey::from_public_key_der(public).map_err(|_| Sm2Error)?;
        let shared = stack::wiped(|| Box::new(self.0.diffie_hellman(&public)));
        Ok(SecretBytes::copy_of(shared.raw_secret_bytes()))
    }
}

/// What is signed.
#[derive(Clone, Copy)]
pub enum Message<'a> {
    /// The message itself, which is hashed behind the hash of identifier and public key.
    Raw(&'a [u8]),
    /// The hash that is signed, `e`: 32 bytes.
    Digest(&'a [u8]),
}

/// Verifies a signature in DER by a public key, a `SubjectPublicKeyInfo` in DER.
///
/// # Errors
/// [`Sm2Error`], whatever the reason.
pub fn verify(public: &[u8], message: Message<'_>, signature: &[u8]) -> Result<(), Sm2Error> {
    let public = PublicKey::from_public_key_der(public).map_err(|_| Sm2Error)?;
    let key = VerifyingKey::new(DISTINGUISHING_ID, public).map_err(|_| Sm2Error)?;
    let signature = Signature::from_der(signature).map_err(|_| Sm2Error)?;
    let verified = match message {
        Message::Raw(message) => key.verify(message, &signature),
        Message::Digest(digest) => key.verify_prehash(digest, &signature),
    };
    verified.map_err(|_| Sm2Error)
}

/// Encrypts 1..=1024 bytes under a public key, a `SubjectPublicKeyInfo` in DER. The ciphertext is
/// as [`Sm2Key::decrypt`] takes it.
///
/// # Errors
/// [`Sm2Error`], for another length or when the operating system's entropy fails.
pub fn encrypt(public: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Sm2Error> {
    if !(1..=PLAINTEXT_BYTES_MAX).contains(&plaintext.len()) {
        return Err(Sm2Error);
    }
    let public = PublicKey::from_public_key_der(public).map_err(|_| Sm2Error)?;
    let sealed = stack::wiped(|| EncryptingKey::new(public).encrypt_der(&mut SysRng, plaintext));
    sealed.map_err(|_| Sm2Error)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use sm3::Digest;

    fn unhex(text: &str) -> Vec<u8> {
        hex_simd::decode_to_vec(text).unwrap()
    }

    /// GB/T 32918.5-2017, appendix: the key of the examples, with its curve of 256 bits.
    const D: &str = "3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8";
    const PX: &str = "09f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020";
    const PY: &str = "ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13";
    /// id-ecPublicKey and 1.2.156.10197.1.301 (GB/T 33560).
    const ALGORITHM: &str = "301306072a8648ce3d020106082a811ccf5501822d";

    /// The PKCS#8 DER of a private key, as OpenSSL writes it without the public key.
    fn pkcs8(scalar: &str) -> Vec<u8> {
        unhex(&format!(
            "3041020100{ALGORITHM}04273025020101\
             0420{scalar}"
        ))
    }

    pub(crate) fn example() -> Sm2Key {
        Sm2Key::read(&pkcs8(D)).unwrap()
    }

    #[test]
    fn sm3_is_that_of_the_standard() {
        // GB/T 32905-2016, appendix A.1.
        let expected = "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0";
        assert_eq!(sm3::Sm3::digest(b"abc").as_slice(), unhex(expected));
    }

    #[test]
    fn the_example_s_public_key_is_that_of_the_standard() {
        let expected = format!("3059{ALGORITHM}03420004{PX}{PY}");
        assert_eq!(*example().public_der().unwrap(), *unhex(&expected));
        let der = example().to_der().unwrap();
        let expected = format!("308187020100{ALGORITHM}046d306b0201010420{D}a14403420004{PX}{PY}");
        assert_eq!(der.expose(), unhex(&expected));
        let again = Sm2Key::read(der.expose()).unwrap();
        assert_eq!(again.public_der(), example().public_der());
        // The public key inside is not the private key's.
        let mut lying = der.expose().to_vec();
        *lying.last_mut().unwrap() ^= 1;
        assert!(Sm2Key::read(&lying).is_err());
        for scalar in ["00".repeat(32), "ff".repeat(32)] {
            assert!(Sm2Key::read(&pkcs8(&scalar)).is_err(), "{scalar}");
        }
    }

    #[test]
    fn the_example_s_signature_verifies_of_the_message_and_of_its_hash() {
        // GB/T 32918.5-2017, appendix A.2, with the identifier that is fixed here.
        let signature = unhex(
            "3046022100f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3\
             022100b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa",
        );
        let digest = unhex("f0b43e94ba45accaace692ed534382eb17e6ab5a19ce7b31f4486fdfc0d28640");
        let public = example().public_der().unwrap();
        let verified = |message| verify(&public, message, &signature);
        assert_eq!(verified(Message::Raw(b"message digest")), Ok(()));
        assert_eq!(verified(Message::Digest(&digest)), Ok(()));
        assert_eq!(verified(Message::Raw(b"message digests")), Err(Sm2Error));
        assert_eq!(verified(Message::Digest(&[0; 32])), Err(Sm2Error));
        for length in [0, 31, 33] {
            let digest = Message::Digest(&[7; 33][..length]);
            assert_eq!(verified(digest), Err(Sm2Error));
            assert!(example().sign(digest).is_err());
        }
    }

    #[test]
    fn what_is_signed_verifies_once_as_a_message_and_once_as_its_hash() {
        let key = Sm2Key::generate().unwrap();
        let public = key.public_der().unwrap();
        let mut hash = sm3::Sm3::new();
        // Z: the length of the identifier in bits, the identifier, a, b, G and the public key.
        let curve = "fffffffeffffffffffffffffffffffffffffffff00000000fffffffffffffffc\
                     28e9fa9e9d9f5e344d5a9e4bcf6509a7f39789f515ab8f92ddbcbd414d940e93\
                     32c4ae2c1f1981195f9904466a39c9948fe30bbff2660be1715a4589334c74c7\
                     bc3736a2f4f6779c59bdcee36b692153d0a9877cc62a474002df32e52139f0a0";
        hash.update([0, 128]);
        hash.update(DISTINGUISHING_ID);
        hash.update(unhex(curve));
        hash.update(&public[27..]);
        let z = hash.finalize();
        let e = sm3::Sm3::digest([z.as_slice(), b"message"].concat());
        for signed in [Message::Raw(b"message"), Message::Digest(&e)] {
            let signature = key.sign(signed).unwrap();
            for message in [Message::Raw(b"message"), Message::Digest(&e)] {
                assert_eq!(verify(&public, message, &signature), Ok(()));
            }
            assert_ne!(key.sign(signed).unwrap(), signature, "hedged");
            let other = Sm2Key::generate().unwrap().public_der().unwrap();
            assert_eq!(verify(&other, signed, &signature), Err(Sm2Error));
            assert_eq!(verify(&public, signed, &signature[1..]), Err(Sm2Error));
        }
    }

    #[test]
    fn the_example_s_ciphertext_opens_and_no_damaged_one_does() {
        // GB/T 32918.5-2017, appendix C.2, in the DER of GB/T 35276.
        let ciphertext = unhex(
            "307c022004ebfc718e8d1798620432268e77feb6415e2ede0e073c0f4f640ecd2e149a73\
             022100e858f9d81e5430a57b36daab8f950a3c64e6ee6a63094d99283aff767e124df0\
             042059983c18f809e262923c53aec295d30383b54e39d609d160afcb1908d0bd8766\
             041321886ca989ca9c7d58087307ca93092d651efa",
        );
        let opened = example().decrypt(&ciphertext).unwrap();
        assert_eq!(opened.expose(), b"encryption standard");
        for at in 0..ciphertext.len() {
            let mut damaged = ciphertext.clone();
            damaged[at] ^= 1;
            assert!(example().decrypt(&damaged).is_err(), "{at}");
            assert!(example().decrypt(&ciphertext[..at]).is_err(), "{at}");
        }
        let longer = [ciphertext.as_slice(), &[0]].concat();
        assert!(example().decrypt(&longer).is_err());
        let other = Sm2Key::generate().unwrap();
        assert!(other.decrypt(&ciphertext).is_err());
    }

    #[test]
    fn what_is_encrypted_opens_up_to_its_longest() {
        let key = Sm2Key::generate().unwrap();
        let public = key.public_der().unwrap();
        for length in [1, 31, 32, 33, PLAINTEXT_BYTES_MAX] {
            let plaintext = vec![7; length];
            let ciphertext = encrypt(&public, &plaintext).unwrap();
            assert!(ciphertext.len() <= length + 113, "{length}");
            assert_eq!(key.decrypt(&ciphertext).unwrap().expose(), plaintext);
        }
        for length in [0, PLAINTEXT_BYTES_MAX + 1] {
            assert_eq!(encrypt(&public, &vec![7; length]), Err(Sm2Error));
        }
        // Longer than is encrypted here, and none at all.
        let public = PublicKey::from_public_key_der(&public).unwrap();
        let longer = vec![7; PLAINTEXT_BYTES_MAX + 1];
        let longer = EncryptingKey::new(public).encrypt_der(&mut SysRng, &longer);
        assert!(key.decrypt(&longer.unwrap()).is_err());
    }

    #[test]
    fn the_example_agrees_with_its_peer_and_with_no_stranger() {
        let peer = "2ffc1d06387ef8bb7a34312b6c6c3f691550684508c3ce7ee3889375a18d6fa0";
        let peer = Sm2Key::read(&pkcs8(peer)).unwrap();
        let expected = unhex("0616e9349fb0e4890320964834fa9e6a3079ed7ff55a8b93cf6c6f6b8251f48f");
        let public = |key: &Sm2Key| key.public_der().unwrap();
        let agreed = example().agree(&public(&peer)).unwrap();
        assert_eq!(agreed.expose(), expected);
        assert_eq!(peer.agree(&public(&example())).unwrap().expose(), expected);
        let mut off = public(&peer).to_vec();
        *off.last_mut().unwrap() ^= 1;
        assert!(example().agree(&off).is_err(), "not on the curve");
        assert!(example().agree(b"").is_err());
    }
}
