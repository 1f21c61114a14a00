//! Whose signature counts, until when, and for which key.

use super::*;
use std::fs;

#[test]
fn attest_1_a_document_is_of_a_configured_root_and_signed_by_its_own_certificate() {
    let (maker, other) = (Maker::new(), Maker::new());
    let document = maker.document(maker.enclave(KEY.public_der()));
    let stranger = "The attestation document is not of a trusted root.";
    assert_eq!(refusal(&document, &Roots::default()), stranger);
    assert_eq!(refusal(&document, &other.roots()), stranger);
    // A root that is trusted, and the certificates of another one below it.
    let mut mixed = Maker::new();
    mixed.bundle[0].clone_from(&other.bundle[0]);
    let document = mixed.document(mixed.enclave(KEY.public_der()));
    let told =
        "Certificate 1 of the attestation document is not signed by the authority before it.";
    assert_eq!(refusal(&document, &other.roots()), told);
    // Another module's key has signed.
    let document = other.document(maker.enclave(KEY.public_der()));
    let told = "The signature of the attestation document does not verify.";
    assert_eq!(refusal(&document, &maker.roots()), told);
    for bytes in [0, 95, 97] {
        let mut signed = maker.signed(maker.enclave(KEY.public_der()).bytes());
        signed.signature.resize(bytes, 0);
        assert_eq!(refusal(&signed.to_vec().unwrap(), &maker.roots()), told);
    }
}

#[test]
fn a_document_is_good_for_five_minutes() {
    let maker = Maker::new();
    let made = |milliseconds: u64| {
        let payload = maker.enclave(KEY.public_der());
        maker.document(payload.with("timestamp", milliseconds.into()))
    };
    let now = NOW.0 / 1000;
    let old = "The attestation document is more than 300 seconds old.";
    let early = "The attestation document is from more than 300 seconds ahead.";
    for (time, told) in [
        (now - 299_999, "taken"),
        (now - 300_001, old),
        (1, old),
        (now + 300_000, "taken"),
        (now + 300_001, early),
        (u64::MAX / 1000, early),
    ] {
        assert_eq!(refusal(&made(time), &maker.roots()), told, "{time}");
    }
}

#[test]
fn a_document_has_an_rsa_key_of_2048_bits() {
    let maker = Maker::new();
    let none = maker.document(maker.enclave(b"x").with("public_key", Value::Null));
    let told = "The attestation document has no public_key.";
    assert_eq!(refusal(&none, &maker.roots()), told);
    let told = "The public_key of the attestation document is not an RSA key of 2048 bits in DER (SubjectPublicKeyInfo).";
    let generated = |spec| PrivateKey::generate(spec, probed()).unwrap();
    let large = generated(PairSpec::Rsa3072);
    let curve = generated(PairSpec::EccNistP384);
    let cut = &KEY.public_der()[1..];
    for key in [large.public_der(), curve.public_der(), cut, b"x"] {
        let document = maker.document(maker.enclave(key));
        assert_eq!(refusal(&document, &maker.roots()), told);
    }
}

#[test]
fn what_comes_of_documents_is_counted() {
    let metrics = Metrics::new().unwrap();
    let maker = Maker::new();
    let attestations = Attestations::new(maker.roots(), &metrics);
    let payload = || maker.enclave(KEY.public_der());
    assert!(!attestations.are_none());
    for (document, label) in [
        (maker.document(payload()), "ok"),
        (b"x".to_vec(), "malformed"),
        (
            Maker::new().document(Maker::new().enclave(b"x")),
            "unknown_root",
        ),
        (
            maker.document(payload().with("certificate", vec![7_u8; 9].into())),
            "certificate",
        ),
        (Maker::new().document(payload()), "signature"),
        (maker.document(payload().with("timestamp", 1.into())), "old"),
        (
            maker.document(payload().with("timestamp", 9_000_000_000_000_u64.into())),
            "early",
        ),
        (maker.document(payload().without("public_key")), "key"),
    ] {
        attestations.verify(&document, NOW).ok();
        let line = format!("keymill_attestation_documents_total{{result=\"{label}\"}} 1");
        assert!(metrics.render().contains(&line), "{label}");
    }
    assert!(Attestations::new(Roots::default(), &metrics).are_none());
}

#[test]
fn roots_are_authorities_on_p_384_in_pem() {
    let folder = tempfile::tempdir().unwrap();
    let pem = |der: &[u8]| {
        let text = base64_simd::STANDARD.encode_to_string(der);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    };
    let path = folder.path().join("roots.pem");
    let read = |text: &str| {
        fs::write(&path, text).unwrap();
        let roots = vec![path.clone()];
        Roots::read(&Config { roots })
    };
    let (maker, other) = (Maker::new(), Maker::new());
    let both = [pem(&maker.bundle[0]), pem(&other.bundle[0])].concat();
    let roots = read(&both).unwrap();
    assert!(roots.contain(&maker.bundle[0]) && roots.contain(&other.bundle[0]));
    assert!(!roots.contain(&maker.bundle[1]) && !roots.are_none());
    for (text, problem) in [
        (String::new(), "there is no certificate in PEM in it"),
        (
            pem(b"x"),
            "certificate 1 is not an X.509 certificate in DER",
        ),
        (
            both + &pem(&maker.certificate),
            "certificate 3 is not an authority",
        ),
    ] {
        let told = read(&text).unwrap_err().to_string();
        let expected = format!(
            "attestation.roots: {} cannot be used: {problem}",
            path.display()
        );
        assert_eq!(told, expected);
    }
    let path = folder.path().join("absent.pem");
    let roots = vec![path.clone()];
    let told = Roots::read(&Config { roots }).unwrap_err().to_string();
    let expected = format!("attestation.roots: {}: No such file", path.display());
    assert!(told.starts_with(&expected), "{told}");
    assert!(Roots::read(&Config::default()).unwrap().are_none());
}
