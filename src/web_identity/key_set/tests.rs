//! Published signatures, and keys that a set is not to have.

use super::*;
use crate::web_identity::tests::{Signer, encoded, rsa_jwk, set_of};
use aws_lc_rs::rsa::KeySize;
use serde_json::{Value, json};

fn set(keys: Value) -> Result<KeySet, InvalidKeySet> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

/// The one key of a set, for its algorithm.
fn key(jwk: Value, algorithm: Algorithm) -> Arc<Key> {
    let id = jwk["kid"].as_str().unwrap().to_owned();
    let found = set(json!([jwk])).unwrap().find(&id, algorithm);
    found.unwrap_or_else(|unfit| panic!("{unfit:?}"))
}

/// The signatures of RFC 7515, appendices A.3 and A.4, and of RFC 8037, appendix A.4.
#[test]
fn web_2_published_signatures_hold_and_none_beside_them() {
    for (jwk, algorithm, signed, signature) in [
        (
            json!({
                "kid": "a", "kty": "EC", "crv": "P-256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            }),
            Algorithm::ES256,
            "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
        (
            json!({
                "kid": "a", "kty": "EC", "crv": "P-521", "alg": "ES512",
                "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
                "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
            }),
            Algorithm::ES512,
            "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA",
            "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn",
        ),
        (
            json!({
                "kid": "a", "kty": "OKP", "crv": "Ed25519",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            }),
            Algorithm::EdDSA,
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        ),
    ] {
        let key = key(jwk, algorithm);
        let signature = decoded(signature).unwrap();
        assert_eq!(key.verify(algorithm, signed.as_bytes(), &signature), Ok(()));
        let other = format!("{signed}.");
        assert_eq!(
            key.verify(algorithm, other.as_bytes(), &signature),
            Err(BadSignature)
        );
        for at in 0..signature.len() {
            let mut changed = signature.clone();
            changed[at] ^= 1;
            let verified = key.verify(algorithm, signed.as_bytes(), &changed);
            assert_eq!(verified, Err(BadSignature), "{algorithm:?} {at}");
        }
        for other in Algorithm::ALL.iter().filter(|other| **other != algorithm) {
            let verified = key.verify(*other, signed.as_bytes(), &signature);
            assert_eq!(verified, Err(BadSignature), "{other:?}");
        }
    }
}

#[test]
fn a_key_is_found_by_its_id_for_what_it_is_for() {
    let (one, two) = (
        Signer::new(Algorithm::RS256, "rsa"),
        Signer::new(Algorithm::ES384, "ec"),
    );
    let both = KeySet::parse(&set_of(&[&one, &two])).unwrap();
    assert_eq!(both.count(), 2);
    for algorithm in [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512] {
        assert!(both.find("rsa", algorithm).is_ok());
        assert_eq!(both.find("ec", algorithm).err(), Some(Unfit::Algorithm));
    }
    assert!(both.find("ec", Algorithm::ES384).is_ok());
    for algorithm in [Algorithm::ES256, Algorithm::ES512, Algorithm::EdDSA] {
        assert_eq!(both.find("rsa", algorithm).err(), Some(Unfit::Algorithm));
        assert_eq!(both.find("ec", algorithm).err(), Some(Unfit::Algorithm));
    }
    for id in ["", "RSA", "rsa ", "other"] {
        assert_eq!(both.find(id, Algorithm::RS256).err(), Some(Unfit::Unknown));
    }
    // One that says what it is for is for nothing else.
    let mut jwk = one.jwk.clone();
    jwk["alg"] = "RS512".into();
    let says = set(json!([jwk])).unwrap();
    assert!(says.find("rsa", Algorithm::RS512).is_ok());
    assert_eq!(
        says.find("rsa", Algorithm::RS256).err(),
        Some(Unfit::Algorithm)
    );
}

#[test]
fn web_2_keys_that_verify_no_token_are_left_out() {
    let good = Signer::new(Algorithm::ES256, "good").jwk;
    let with = |name: &str, value: Value| {
        let mut jwk = good.clone();
        jwk[name] = value;
        jwk
    };
    let without = |name: &str| {
        let mut jwk = good.clone();
        jwk.as_object_mut().unwrap().remove(name);
        jwk
    };
    let rsa = rsa_jwk(KeySize::Rsa2048);
    let modulus = decoded(rsa["n"].as_str().unwrap()).unwrap();
    let rsa_with = |name: &str, bytes: &[u8]| {
        let mut jwk = rsa.clone();
        jwk[name] = encoded(bytes).into();
        jwk
    };
    for (at, odd) in [
        json!({"kid": "a", "kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}),
        json!({"kid": "a", "kty": "oct", "k": "c2VjcmV0"}),
        json!({"kid": "a", "kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"}),
        json!({"kid": "a", "kty": "OKP", "crv": "X25519", "x": encoded([1; 32])}),
        json!({"kid": "a", "kty": "OKP", "crv": "Ed25519", "x": encoded([1; 31])}),
        json!({"kid": "a", "kty": "EC", "crv": "secp256k1", "x": encoded([1; 32]), "y": encoded([1; 32])}),
        json!("a"),
        json!({}),
        without("kid"),
        without("kty"),
        without("x"),
        with("kid", "".into()),
        with("kid", 1.into()),
        with("use", "enc".into()),
        with("use", 1.into()),
        with("key_ops", json!(["sign"])),
        with("key_ops", "verify".into()),
        with("alg", "ES384".into()),
        with("alg", "RS256".into()),
        with("alg", "none".into()),
        with("alg", Value::Null),
        with("crv", "P-384".into()),
        with("x", encoded([1; 31]).into()),
        with("x", encoded([1; 33]).into()),
        with("x", "=".into()),
        rsa_with("n", &modulus[..255]),
        rsa_with("n", &[0x7f; 256]),
        rsa_with("n", &[0xff; 1025]),
        rsa_with("e", &[1]),
        rsa_with("e", &[1, 0]),
        rsa_with("e", &[]),
        rsa_with("e", &[1, 0, 0, 0, 1]),
    ]
    .into_iter()
    .enumerate()
    {
        let alone = set(json!([odd])).err();
        assert_eq!(alone, Some(InvalidKeySet::Nothing), "{at}: {odd}");
        let beside = set(json!([odd, good])).unwrap();
        assert_eq!(beside.count(), 1, "{at}: {odd}");
    }
    for good in [
        with("key_ops", json!(["sign", "verify"])),
        with("alg", "ES256".into()),
        without("use"),
        with("x5c", json!(["AAAA"])),
        rsa.clone(),
        rsa_with("n", &[&[0], modulus.as_slice()].concat()),
        rsa_jwk(KeySize::Rsa4096),
    ] {
        assert_eq!(set(json!([good])).unwrap().count(), 1, "{good}");
    }
}

#[test]
fn bytes_that_are_not_a_set_of_bounded_size_are_refused() {
    for (bytes, error) in [
        (&b""[..], InvalidKeySet::Form),
        (b"[]", InvalidKeySet::Form),
        (b"{}", InvalidKeySet::Form),
        (br#"{"keys": {}}"#, InvalidKeySet::Form),
        (br#"{"keys": [], "keys": []}"#, InvalidKeySet::Form),
        (br#"{"keys": []}{}"#, InvalidKeySet::Form),
        (b"\xff", InvalidKeySet::Form),
        (br#"{"keys": []}"#, InvalidKeySet::Nothing),
    ] {
        assert_eq!(KeySet::parse(bytes).err(), Some(error));
    }
    let keys = |count: usize| set(Value::Array(vec![json!({}); count])).err();
    assert_eq!(keys(KEYS_MAX), Some(InvalidKeySet::Nothing));
    assert_eq!(keys(KEYS_MAX + 1), Some(InvalidKeySet::TooMany));
    let long = vec![b' '; KeySet::BYTES_MAX + 1];
    assert_eq!(KeySet::parse(&long).err(), Some(InvalidKeySet::TooLong));
    assert_eq!(KeySet::parse(&long[1..]).err(), Some(InvalidKeySet::Form));
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(
        KeySet::parse(deep.as_bytes()).err(),
        Some(InvalidKeySet::Form)
    );
}
