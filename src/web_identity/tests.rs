//! An issuer of the tests, and the way of a token from its text to an identity.

use super::*;
use crate::clock::Timestamp;
use crate::key::regions::Regions;
use crate::rates;
use crate::web_identity::algorithm::Algorithm;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RsaKeyPair, RsaPublicKeyComponents,
};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// 2026-11-28, in seconds since 1970.
pub(crate) const NOW: u64 = 1_795_867_200;
pub(crate) const URL: &str = "https://issuer.example/id/42";
pub(crate) const ACCOUNT: &str = "111122223333";

pub(crate) fn encoded(bytes: impl AsRef<[u8]>) -> String {
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes)
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// A key of an issuer.
pub(crate) struct Signer {
    pub(crate) id: String,
    pub(crate) algorithm: Algorithm,
    pair: Pair,
    /// The private key for the oracle: RSA in PKCS #1, others in PKCS #8.
    der: Vec<u8>,
    /// The public key, as a set has it.
    pub(crate) jwk: Value,
}

impl Signer {
    pub(crate) fn new(algorithm: Algorithm, id: &str) -> Self {
        let (pair, der, mut jwk) = match algorithm {
            Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 => rsa(KeySize::Rsa2048),
            Algorithm::ES256 | Algorithm::ES384 | Algorithm::ES512 => ec(algorithm),
            Algorithm::EdDSA => ed(),
        };
        jwk["kid"] = id.into();
        jwk["use"] = "sig".into();
        Self {
            id: id.to_owned(),
            algorithm,
            pair,
            der,
            jwk,
        }
    }

    /// A token with exactly this header and these claims.
    pub(crate) fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encoded(header), encoded(claims));
        let (message, random) = (signed.as_bytes(), SystemRandom::new());
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let padding = match self.algorithm {
                    Algorithm::RS384 => &RSA_PKCS1_SHA384,
                    Algorithm::RS512 => &RSA_PKCS1_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature)
                    .unwrap();
                signature
            }
            Pair::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        };
        format!("{signed}.{}", encoded(signature))
    }

    /// A token with these claims, and the usual header.
    pub(crate) fn token(&self, claims: &Value) -> String {
        let header = json!({"alg": self.algorithm.name(), "kid": self.id, "typ": "JWT"});
        self.sign(&header.to_string(), &claims.to_string())
    }

    /// The same by the oracle, which has no ES512.
    pub(crate) fn token_of_oracle(&self, claims: &Value) -> Option<String> {
        let mut header = Header::new(self.algorithm.name().parse().ok()?);
        header.kid = Some(self.id.clone());
        let key = match self.pair {
            Pair::Rsa(_) => EncodingKey::from_rsa_der(&self.der),
            Pair::Ec(_) => EncodingKey::from_ec_der(&self.der),
            Pair::Ed(_) => EncodingKey::from_ed_der(&self.der),
        };
        Some(jsonwebtoken::encode(&header, claims, &key).unwrap())
    }
}

/// RSA keys, whose size the daemon may or may not take.
pub(crate) fn rsa_jwk(size: KeySize) -> Value {
    let mut jwk = rsa(size).2;
    jwk["kid"] = "rsa".into();
    jwk
}

fn rsa(size: KeySize) -> (Pair, Vec<u8>, Value) {
    let pair = aws_lc_rs::rsa::KeyPair::generate(size).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    // After version, algorithm and the heads of both (RFC 5208, section 5).
    let inner = der.as_ref()[26..].to_vec();
    let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
    let jwk = json!({"kty": "RSA", "n": encoded(public.n), "e": encoded(public.e)});
    (Pair::Rsa(pair), inner, jwk)
}

fn ec(algorithm: Algorithm) -> (Pair, Vec<u8>, Value) {
    let (signing, curve) = match algorithm {
        Algorithm::ES256 => (&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"),
        Algorithm::ES384 => (&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
        _ => (&ECDSA_P521_SHA512_FIXED_SIGNING, "P-521"),
    };
    let der = EcdsaKeyPair::generate_pkcs8(signing, &SystemRandom::new()).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(signing, der.as_ref()).unwrap();
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    let jwk = json!({"kty": "EC", "crv": curve, "x": encoded(x), "y": encoded(y)});
    (Pair::Ec(pair), der.as_ref().to_vec(), jwk)
}

fn ed() -> (Pair, Vec<u8>, Value) {
    let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap();
    let x = encoded(pair.public_key().as_ref());
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
    (Pair::Ed(pair), der.as_ref().to_vec(), jwk)
}

/// The set of these keys.
pub(crate) fn set_of(signers: &[&Signer]) -> Vec<u8> {
    let keys: Vec<_> = signers.iter().map(|signer| signer.jwk.clone()).collect();
    json!({"keys": keys}).to_string().into_bytes()
}

/// The claims of a token that is taken at [`NOW`].
pub(crate) fn claims() -> Value {
    json!({
        "iss": URL,
        "sub": "system:serviceaccount:payments:minter",
        "aud": ["other", "sts.amazonaws.com"],
        "iat": NOW - 60,
        "nbf": NOW - 60,
        "exp": NOW + 3600,
    })
}

pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp(seconds * 1_000_000)
}

/// An issuer with its keys in this file.
pub(crate) fn config(url: &str, file: &Path) -> issuer::Config {
    issuer::Config {
        url: url.to_owned(),
        audiences: vec!["sts.amazonaws.com".to_owned(), "keymill".to_owned()],
        account: String::new(),
        jwks_file: file.to_owned(),
        jwks_url: String::new(),
        ca_file: Default::default(),
        bearer_token_file: Default::default(),
    }
}

/// Issuers whose keys are in files.
struct Bench {
    identities: WebIdentities,
    rates: Rates,
    clock: Clock,
    metrics: Metrics,
    _stop: watch::Sender<()>,
    _tasks: JoinSet<()>,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// One issuer for each URL, with the keys of its signer; the second is of another account.
    fn new(issuers: &[(&str, &Signer)], tokens_per_second: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut configs = BTreeMap::new();
        for (at, (url, signer)) in issuers.iter().enumerate() {
            let file = folder.path().join(format!("{at}.json"));
            std::fs::write(&file, set_of(&[signer])).unwrap();
            let mut config = config(url, &file);
            if at == 1 {
                config.account = "444455556666".to_owned();
            }
            configs.insert(format!("issuer-{at}"), config);
        }
        let (clock, metrics) = (Clock::manual(at(NOW)), Metrics::new().unwrap());
        let account = ACCOUNT.parse().unwrap();
        let identities = WebIdentities::new(&configs, "aws", account, &clock, &metrics);
        let config = rates::Config {
            address_tokens_per_second: tokens_per_second,
            ..rates::Config::default()
        };
        let (stop, stopped) = watch::channel(());
        let mut tasks = JoinSet::new();
        identities.keep(&mut tasks, &stopped);
        Self {
            identities,
            rates: Rates::new(&config, &Regions::one("aws", "us-east-1")),
            clock,
            metrics,
            _stop: stop,
            _tasks: tasks,
            _folder: folder,
        }
    }

    async fn verify_for(&self, account: &str, token: &str) -> Result<Identity, TokenError> {
        let (account, source) = (account.parse().unwrap(), Some([192, 0, 2, 7].into()));
        let verified = self.identities.verify(token, account, source, &self.rates);
        verified.await
    }

    async fn refusal(&self, token: &str) -> String {
        match self.verify_for(ACCOUNT, token).await {
            Ok(_) => "taken".to_owned(),
            Err(error) => error.to_string(),
        }
    }
}

#[tokio::test]
async fn a_token_of_an_issuer_that_is_configured_is_an_identity() {
    let signer = Signer::new(Algorithm::ES256, "a");
    let bench = Bench::new(&[(URL, &signer)], 0);
    let identity = bench.verify_for(ACCOUNT, &signer.token(&claims())).await;
    let identity = identity.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(identity.issuer, URL);
    assert_eq!(identity.provider, "issuer.example/id/42");
    let arn = "arn:aws:iam::111122223333:oidc-provider/issuer.example/id/42";
    assert_eq!(identity.provider_arn, arn);
    // The one of the token's audiences that the issuer is configured with.
    assert_eq!(identity.audience, "sts.amazonaws.com");
    let subject = "system:serviceaccount:payments:minter";
    assert_eq!(identity.claims.subject, subject);
    let text = bench.metrics.render();
    for line in [
        "keymill_web_identity_tokens_total{result=\"ok\"} 1",
        "keymill_web_identity_tokens_total{result=\"expired\"} 0",
        "keymill_issuer_fetches_total{issuer=\"issuer-0\",result=\"ok\"} 1",
        "keymill_issuer_keys_fetched_timestamp_seconds{issuer=\"issuer-0\"} 1795867200",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn tokens_that_are_not_for_the_account_or_its_audience_are_refused() {
    let (ours, theirs) = (
        Signer::new(Algorithm::ES256, "a"),
        Signer::new(Algorithm::ES256, "b"),
    );
    let other = "https://other.example";
    let bench = Bench::new(&[(URL, &ours), (other, &theirs)], 0);
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        claims
    };
    let found = "No OpenIDConnect provider found in your account for";
    for (token, refusal) in [
        // An issuer of another account, one of no account, and one that is spelt otherwise.
        (
            theirs.token(&with("iss", other.into())),
            format!("{found} {other}"),
        ),
        (
            ours.token(&with("iss", "https://a.example".into())),
            format!("{found} https://a.example"),
        ),
        (
            ours.token(&with("iss", format!("{URL}/").into())),
            format!("{found} {URL}/"),
        ),
        // A key of another issuer, under its own name and under that of ours.
        (theirs.token(&claims()), TokenError::UnknownKey.to_string()),
        (
            theirs.sign(r#"{"alg":"ES256","kid":"a"}"#, &claims().to_string()),
            "The web identity token could not be validated: its signature is not of its issuer."
                .to_owned(),
        ),
        (
            ours.token(&with("aud", "sts.amazonaws.co".into())),
            "Incorrect token audience".to_owned(),
        ),
        (
            ours.token(&with("aud", json!(["a", "b"]))),
            "Incorrect token audience".to_owned(),
        ),
        // The times are judged before the audience, and neither before the signature.
        (
            ours.token(
                &json!({"iss": URL, "sub": "s", "aud": "x", "iat": NOW - 900, "exp": NOW - 300}),
            ),
            format!(
                "Token expired: current date/time {NOW} must be before the expiration date/time {}",
                NOW - 300
            ),
        ),
        (
            theirs.sign(
                r#"{"alg":"ES256","kid":"a"}"#,
                &json!({"iss": URL, "sub": "s", "aud": "x", "iat": 1, "exp": 2}).to_string(),
            ),
            "The web identity token could not be validated: its signature is not of its issuer."
                .to_owned(),
        ),
    ] {
        assert_eq!(bench.refusal(&token).await, refusal);
    }
    let theirs = theirs.token(&with("iss", other.into()));
    assert!(bench.verify_for("444455556666", &theirs).await.is_ok());
}

#[tokio::test]
async fn web_3_an_address_has_so_many_tokens_verified_a_second() {
    let (ours, theirs) = (
        Signer::new(Algorithm::ES256, "a"),
        Signer::new(Algorithm::ES256, "a"),
    );
    let bench = Bench::new(&[(URL, &ours)], 1);
    // Ten at once, good or not.
    for at in 0..10 {
        let signer = if at % 2 == 0 { &ours } else { &theirs };
        assert_ne!(
            bench.refusal(&signer.token(&claims())).await,
            "Rate exceeded"
        );
    }
    assert_eq!(bench.refusal(&ours.token(&claims())).await, "Rate exceeded");
    // What costs no signature is not charged, and not refused for others' sake.
    for _ in 0..100 {
        assert!(
            bench
                .refusal("a.b.c")
                .await
                .starts_with("The web identity token")
        );
    }
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.refusal(&ours.token(&claims())).await, "taken");
    let token = ours.token(&claims());
    let account = ACCOUNT.parse().unwrap();
    for source in [None, Some("2001:db8::1".parse().unwrap())] {
        let taken = bench
            .identities
            .verify(&token, account, source, &bench.rates);
        assert!(taken.await.is_ok(), "{source:?}");
    }
}
