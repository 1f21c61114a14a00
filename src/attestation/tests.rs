//! Documents made in the test, and the many that are refused.

use super::*;
use crate::crypto::entropy::{Entropy, probed};
use crate::crypto::enveloped_data::tests::opened;
use crate::crypto::pair::{PairSpec, PrivateKey};
use crate::policy::Measurement;
use coset::cbor::Value;
use coset::iana::Algorithm;
use coset::{CborSerializable, HeaderBuilder, TaggedCborSerializable};
use maker::{Maker, NOW, Payload};
use std::sync::LazyLock;

mod certificates;
pub(crate) mod maker;
mod trust;

/// The key of the recipient of all tests: it takes a while to make.
static KEY: LazyLock<PrivateKey> =
    LazyLock::new(|| PrivateKey::generate(PairSpec::Rsa2048, probed()).unwrap());

fn judged(maker: &Maker, payload: Payload) -> Result<Attested, AttestationError> {
    judge(&maker.document(payload), &maker.roots(), NOW)
}

/// The words of the refusal of a document.
fn refusal(document: &[u8], roots: &Roots) -> String {
    let judged = judge(document, roots, NOW);
    judged
        .err()
        .map_or("taken".to_owned(), |error| error.to_string())
}

fn malformed(part: &str) -> String {
    format!("The attestation document is malformed: {part}.")
}

#[test]
fn attest_1_a_document_proves_what_was_measured_and_whose_key_it_is() {
    let maker = Maker::new();
    let attested = judged(&maker, maker.enclave(KEY.public_der())).unwrap();
    let value = |measurement| attested.measurements.value(measurement);
    assert_eq!(value(Measurement::ImageSha384), Some(&*"00".repeat(48)));
    assert_eq!(value(Measurement::Pcr(0)), Some(&*"00".repeat(48)));
    assert_eq!(value(Measurement::Pcr(15)), Some(&*"0f".repeat(48)));
    assert_eq!(value(Measurement::Pcr(16)), None);
    assert_eq!(value(Measurement::NitroTpmPcr(0)), None);
    let sealed = attested.key.seal(b"secret", &Entropy::os()).unwrap();
    assert_eq!(opened(&KEY, &sealed), b"secret");
    let audited: serde_json::Value =
        serde_json::from_str(&attested.measurements.audited()).unwrap();
    let expected = serde_json::json!({
        "attestationDocumentModuleId": "i-0abc-enc0def",
        "attestationDocumentEnclaveImageDigest": "00".repeat(48),
        "attestationDocumentEnclavePCR1": "01".repeat(48),
        "attestationDocumentEnclavePCR2": "02".repeat(48),
        "attestationDocumentEnclavePCR3": "03".repeat(48),
        "attestationDocumentEnclavePCR4": "04".repeat(48),
        "attestationDocumentEnclavePCR8": "08".repeat(48),
    });
    assert_eq!(audited, expected);
}

#[test]
fn attest_1_a_document_of_a_tpm_has_other_registers() {
    let maker = Maker::new();
    let attested = judged(&maker, maker.tpm(KEY.public_der())).unwrap();
    let value = |measurement| attested.measurements.value(measurement);
    assert_eq!(value(Measurement::NitroTpmPcr(23)), Some(&*"17".repeat(48)));
    assert_eq!(value(Measurement::Pcr(4)), None);
    assert_eq!(value(Measurement::ImageSha384), None);
    let audited: serde_json::Value =
        serde_json::from_str(&attested.measurements.audited()).unwrap();
    let expected = serde_json::json!({
        "attestationDocumentModuleId": "i-0abc-tpm0def",
        "attestationDocumentNitroTPMPCR4": "04".repeat(48),
        "attestationDocumentNitroTPMPCR7": "07".repeat(48),
        "attestationDocumentNitroTPMPCR8": "08".repeat(48),
        "attestationDocumentNitroTPMPCR9": "09".repeat(48),
        "attestationDocumentNitroTPMPCR16": "10".repeat(48),
        "attestationDocumentNitroTPMPCR23": "17".repeat(48),
    });
    assert_eq!(audited, expected);
}

#[test]
fn what_the_specification_leaves_open_is_taken() {
    let maker = Maker::new();
    let payload = || maker.enclave(KEY.public_der());
    let untagged = maker.signed(payload().bytes()).to_vec().unwrap();
    assert_eq!(refusal(&untagged, &maker.roots()), "taken");
    let register = |bytes| Value::Map(vec![(31.into(), Value::Bytes(vec![7; bytes]))]);
    for payload in [
        payload().without("user_data").without("nonce"),
        payload().with("user_data", Value::Bytes(Vec::new())),
        payload().with("nonce", Value::Bytes(vec![7; 1024])),
        payload().with("pcrs", register(32)),
        payload().with("pcrs", register(64)),
        payload().with("module_id", "é".repeat(128).into()),
        payload().with("of_a_later_version", vec![Value::from(1)].into()),
        payload().with("nitrotpm_pcrs", Value::Null),
    ] {
        let document = maker.document(payload);
        assert_eq!(refusal(&document, &maker.roots()), "taken");
    }
}

#[test]
fn members_of_another_form_are_refused() {
    let maker = Maker::new();
    let payload = || maker.enclave(KEY.public_der());
    let bytes = |count| Value::Bytes(vec![7; count]);
    let list = |count, of: usize| Value::Array(vec![bytes(of); count]);
    let register = |index: i64, of| Value::Map(vec![(index.into(), bytes(of))]);
    let twice = Value::Map(vec![(1.into(), bytes(48)), (1.into(), bytes(48))]);
    let module_id = "module_id is not a text of 1 to 256 bytes";
    let digest = "digest is not SHA384";
    let time = "timestamp is not a number of milliseconds";
    let pcrs = "pcrs are not registers of an enclave";
    let tpm = "nitrotpm_pcrs are not registers of a TPM";
    let neither = "neither pcrs nor nitrotpm_pcrs, or both";
    let certificate = "certificate is not 1 to 1024 bytes";
    let bundle = "cabundle is not 1 to 8 certificates of 1 to 1024 bytes";
    let key = "public_key is not 1 to 1024 bytes";
    for (name, value, part) in [
        ("module_id", Value::Null, module_id),
        ("module_id", "".into(), module_id),
        ("module_id", "x".repeat(257).into(), module_id),
        ("module_id", bytes(5), module_id),
        ("digest", "SHA256".into(), digest),
        ("digest", "sha384".into(), digest),
        ("digest", Value::Null, digest),
        ("timestamp", 0.into(), time),
        ("timestamp", (-1).into(), time),
        ("timestamp", u64::MAX.into(), time),
        ("timestamp", 1.5.into(), time),
        ("timestamp", "1".into(), time),
        ("timestamp", Value::Null, time),
        ("pcrs", Value::Null, neither),
        ("pcrs", Value::Map(Vec::new()), pcrs),
        ("pcrs", register(32, 48), pcrs),
        ("pcrs", register(-1, 48), pcrs),
        ("pcrs", register(256, 48), pcrs),
        ("pcrs", register(0, 47), pcrs),
        ("pcrs", register(0, 0), pcrs),
        ("pcrs", twice.clone(), pcrs),
        ("pcrs", list(1, 48), pcrs),
        ("pcrs", Value::Map(vec![("0".into(), bytes(48))]), pcrs),
        (
            "pcrs",
            Value::Map(vec![(0.into(), "x".repeat(48).into())]),
            pcrs,
        ),
        ("nitrotpm_pcrs", register(0, 48), neither),
        ("certificate", Value::Null, certificate),
        ("certificate", bytes(0), certificate),
        ("certificate", bytes(1025), certificate),
        ("cabundle", Value::Null, bundle),
        ("cabundle", list(0, 0), bundle),
        ("cabundle", list(9, 1), bundle),
        ("cabundle", list(1, 0), bundle),
        ("cabundle", list(1, 1025), bundle),
        ("cabundle", vec![Value::from(1)].into(), bundle),
        ("cabundle", bytes(9), bundle),
        ("public_key", bytes(0), key),
        ("public_key", bytes(1025), key),
        ("public_key", "x".into(), key),
        (
            "user_data",
            bytes(1025),
            "user_data is not up to 1024 bytes",
        ),
        ("user_data", "x".into(), "user_data is not up to 1024 bytes"),
        ("nonce", bytes(1025), "nonce is not up to 1024 bytes"),
    ] {
        let document = maker.document(payload().with(name, value.clone()));
        let told = refusal(&document, &maker.roots());
        assert_eq!(told, malformed(part), "{name}: {value:?}");
    }
    for (value, part) in [
        (register(24, 48), tpm),
        (register(0, 32), tpm),
        (twice, tpm),
        (Value::Null, neither),
    ] {
        let payload = maker.tpm(KEY.public_der()).with("nitrotpm_pcrs", value);
        let told = refusal(&maker.document(payload), &maker.roots());
        assert_eq!(told, malformed(part));
    }
    let twice = payload().and("digest".into(), "SHA384".into());
    let told = refusal(&maker.document(twice), &maker.roots());
    assert_eq!(told, malformed("a member is there twice"));
    let numbered = payload().and(1.into(), "SHA384".into());
    let told = refusal(&maker.document(numbered), &maker.roots());
    assert_eq!(told, malformed("a member's name is not a text"));
}

#[test]
fn structures_of_another_form_are_refused() {
    const SIGN1: &str = "it is not a COSE_Sign1";
    let maker = Maker::new();
    let payload = || maker.enclave(KEY.public_der()).bytes();
    let es384 = || HeaderBuilder::new().algorithm(Algorithm::ES384);
    let with = |protected| maker.signed_with(protected, payload()).to_vec().unwrap();
    let of = |value: Value| value.to_vec().unwrap();
    let whole = maker.signed(payload()).to_tagged_vec().unwrap();
    let mut unprotected = maker.signed(payload());
    unprotected.unprotected.key_id = vec![7];
    let mut detached = maker.signed(payload());
    detached.payload = None;
    let protected = "its protected header is not {1: -35}, which is ES384";
    let behind = [&*whole, &[0]].concat();
    let other_tag = [&[0xd1], &whole[1..]].concat();
    let tagged_twice = [&[0xd2], &*whole].concat();
    let payload_length = "the payload does not have 1 to 16384 bytes";
    let not_cbor = "the payload is not CBOR";
    for (document, part) in [
        (Vec::new(), SIGN1),
        (b"nonsense".to_vec(), SIGN1),
        (vec![0; Document::BYTES_MAX], SIGN1),
        (
            vec![0; Document::BYTES_MAX + 1],
            "it has more than 16640 bytes",
        ),
        (whole[..whole.len() - 1].to_vec(), SIGN1),
        (behind, SIGN1),
        (other_tag, SIGN1),
        (tagged_twice, SIGN1),
        (of(Value::Array(vec![Value::Null; 4])), SIGN1),
        (of(Value::Array(vec![Value::Bytes(vec![]); 4])), SIGN1),
        (detached.to_vec().unwrap(), SIGN1),
        (
            unprotected.to_vec().unwrap(),
            "its unprotected header is not empty",
        ),
        (with(HeaderBuilder::new().build()), protected),
        (
            with(HeaderBuilder::new().algorithm(Algorithm::ES256).build()),
            protected,
        ),
        (with(es384().key_id(vec![7; 9]).build()), protected),
        (with(es384().key_id(vec![7]).build()), protected),
        (maker.signed(Vec::new()).to_vec().unwrap(), payload_length),
        (
            maker.signed(vec![0; 16_385]).to_vec().unwrap(),
            payload_length,
        ),
        (
            maker.signed(vec![0x80]).to_vec().unwrap(),
            "the payload is not a map",
        ),
        (
            maker.signed(vec![0xa0]).to_vec().unwrap(),
            "module_id is not a text of 1 to 256 bytes",
        ),
        (maker.signed(vec![0xa1]).to_vec().unwrap(), not_cbor),
        (
            maker
                .signed([payload(), vec![0]].concat())
                .to_vec()
                .unwrap(),
            not_cbor,
        ),
    ] {
        assert_eq!(refusal(&document, &maker.roots()), malformed(part));
    }
}

/// Values that say that they are large, or nest deeply, take neither memory nor stack.
#[test]
fn hostile_values_are_bounded() {
    let maker = Maker::new();
    let fill = |unit: &[u8]| unit.repeat(Document::BYTES_MAX / unit.len());
    // A header with a counter signature, whose own header has one.
    let header = [
        &[0xa1, 7, 0x83, 0x47, 0xa1, 7, 0x83][..],
        &[0x41, 0xa0, 0xa0, 0x40],
        &[0xa0, 0x40],
    ]
    .concat();
    let length = u8::try_from(header.len()).unwrap();
    let nested = [&[0x84, 0x58, length], &header[..], &[0xa0, 0x41, 0, 0x40]].concat();
    let in_unprotected = [&[0x84, 0x40], &header[..], &[0x41, 0, 0x40]].concat();
    let long = [0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let long_text = [0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    for document in [
        fill(&[0x81]),
        fill(&[0xa1]),
        fill(&[0xd2]),
        fill(&[0xc1]),
        fill(&[0x9f]),
        fill(&[0xbf]),
        fill(&[0x5f]),
        fill(&[0x7f]),
        fill(&long),
        fill(&long_text),
        long.to_vec(),
        long_text.to_vec(),
        nested,
        in_unprotected,
    ] {
        let told = refusal(&document, &maker.roots());
        assert!(
            told.starts_with("The attestation document is malformed"),
            "{told}"
        );
        let room = Document::BYTES_MAX.min(document.len()).min(16_000);
        let payload = document[..room].to_vec();
        let told = refusal(&maker.signed(payload).to_vec().unwrap(), &maker.roots());
        assert!(
            told.starts_with("The attestation document is malformed"),
            "{told}"
        );
    }
}

#[test]
fn attest_1_no_byte_of_a_document_may_change() {
    let maker = Maker::new();
    let document = maker.document(maker.enclave(KEY.public_der()));
    assert_eq!(refusal(&document, &maker.roots()), "taken");
    for at in (0..document.len())
        .step_by(7)
        .chain(document.len() - 96..document.len())
    {
        for bit in [1, 0x80] {
            let mut changed = document.clone();
            changed[at] ^= bit;
            assert_ne!(refusal(&changed, &maker.roots()), "taken", "byte {at}");
        }
    }
}
