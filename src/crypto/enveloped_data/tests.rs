//! The profile to the byte, and a reader that is as strict as the strictest client.

use super::*;
use crate::crypto::entropy::faulty::FaultyEntropy;
use crate::crypto::entropy::probed;
use crate::crypto::pair::{PairSpec, PrivateKey};
use aws_lc_rs::cipher::{DecryptionContext, PaddedBlockDecryptingKey};
use std::sync::atomic::Ordering;

/// Walks over the elements of an answer as the SDK of Nitro Enclaves in C does: of a value of
/// indefinite length it takes the header, and of any other one the whole.
struct Walker<'a>(&'a [u8]);

impl<'a> Walker<'a> {
    fn skip(&mut self, bytes: &[u8]) {
        let rest = self.0.strip_prefix(bytes);
        self.0 = rest.unwrap_or_else(|| panic!("{:02x?} is not {bytes:02x?}", self.0));
    }

    /// The contents of a value of this tag and a definite length.
    fn take(&mut self, tag: u8) -> &'a [u8] {
        let (length, header) = match *self.0 {
            [found, length @ 0..=0x7f, ..] if found == tag => (usize::from(length), 2),
            [found, 0x81, length @ 0x80..=0xff, ..] if found == tag => (usize::from(length), 3),
            [found, 0x82, high @ 1..=0xff, low, ..] if found == tag => {
                (usize::from(u16::from_be_bytes([high, low])), 4)
            }
            _ => panic!("{:02x?} is not DER of tag {tag:02x}", self.0),
        };
        let contents = &self.0[header..header + length];
        self.0 = &self.0[header + length..];
        contents
    }
}

/// Opens an answer with the private key, and checks every byte of its form.
pub(crate) fn opened(key: &PrivateKey, answer: &[u8]) -> Vec<u8> {
    let mut outer = Walker(answer);
    outer.skip(&[0x30, 0x80]);
    outer.skip(&ID_ENVELOPED_DATA);
    outer.skip(&[0xa0, 0x80, 0x30, 0x80, 2, 1, 2]);
    let mut recipients = Walker(outer.take(0x31));
    let mut recipient = Walker(recipients.take(0x30));
    assert!(recipients.0.is_empty(), "one recipient");
    recipient.skip(&INTEGER_2);
    let identifier: [u8; 32] = Sha256::digest(key.public_der()).into();
    assert_eq!(recipient.take(0x80), identifier);
    recipient.skip(&RSAES_OAEP_SHA_256);
    let sealed_key = recipient.take(4);
    assert!(recipient.0.is_empty() && sealed_key.len() == 256);
    outer.skip(&[0x30, 0x80]);
    outer.skip(&ID_DATA);
    let mut algorithm = Walker(outer.take(0x30));
    algorithm.skip(&ID_AES_256_CBC);
    let iv: [u8; 16] = algorithm.take(4).try_into().unwrap();
    assert!(algorithm.0.is_empty());
    outer.skip(&[0xa0, 0x80]);
    let mut content = outer.take(4).to_vec();
    outer.skip(&[0; 10]);
    assert!(outer.0.is_empty(), "nothing behind it");
    let content_key = oaep::decrypt(key, OaepHash::Sha256, sealed_key, probed()).unwrap();
    let content_key = UnboundCipherKey::new(&AES_256, content_key.expose()).unwrap();
    let content_key = PaddedBlockDecryptingKey::cbc_pkcs7(content_key).unwrap();
    let context = DecryptionContext::Iv128(FixedLength::from(iv));
    content_key.decrypt(&mut content, context).unwrap().to_vec()
}

fn key() -> (PrivateKey, RecipientKey) {
    let key = PrivateKey::generate(PairSpec::Rsa2048, probed()).unwrap();
    let public = RecipientKey::from_der(key.public_der()).unwrap();
    (key, public)
}

#[test]
fn attest_1_what_is_sealed_opens_with_the_recipients_key() {
    let (private, public) = key();
    let entropy = Entropy::os();
    for (length, expected) in [(32, 493), (1, 461), (0, 461), (4096, 4559), (8192, 8655)] {
        let plaintext = vec![7; length];
        let sealed = public.seal(&plaintext, &entropy).unwrap();
        // 493 bytes for a data key is what AWS answers.
        assert_eq!(sealed.len(), expected, "{length}");
        assert_eq!(opened(&private, &sealed), plaintext);
    }
    let too_long = public.seal(&[7; 8193], &entropy);
    assert!(matches!(too_long, Err(SealError::Library)));
    let [one, other] = [(); 2].map(|()| public.seal(b"the same", &entropy).unwrap());
    assert_ne!(one[100..], other[100..], "a key and an IV of their own");
}

/// The SDK in C fails on such an answer; OpenSSL opens it.
#[test]
#[should_panic(expected = "is not [30, 80]")]
fn outer_elements_with_lengths_are_refused_by_the_walker() {
    let (private, public) = key();
    let sealed = public.seal(b"x", &Entropy::os()).unwrap();
    let inside = &sealed[2..sealed.len() - 2];
    opened(&private, &element(SEQUENCE, &[inside]));
}

#[test]
fn rng_1_nothing_is_sealed_while_nothing_is_random() {
    let (_, public) = key();
    let faults = FaultyEntropy::default();
    let entropy = Entropy::new(Box::new(faults.clone()), metrics::Counter::noop());
    assert!(public.seal(b"x", &entropy).is_ok());
    faults.0.store(true, Ordering::SeqCst);
    let sealed = public.seal(b"x", &entropy);
    assert!(matches!(sealed, Err(SealError::Entropy(_))));
}

#[test]
fn keys_of_other_kinds_are_refused() {
    for spec in PairSpec::ALL
        .into_iter()
        .filter(|spec| *spec != PairSpec::Rsa4096)
    {
        let key = PrivateKey::generate(spec, probed()).unwrap();
        let read = RecipientKey::from_der(key.public_der());
        let is_one = spec == PairSpec::Rsa2048;
        assert_eq!(read.err().is_none(), is_one, "{spec:?}");
    }
    assert_eq!(RecipientKey::from_der(b"").err(), Some(InvalidRecipientKey));
}
