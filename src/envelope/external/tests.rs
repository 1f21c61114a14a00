//! The two layers, and the layout of their blob.

use super::*;
use crate::clock::Timestamp;
use crate::crypto::secret::Secret;
use crate::envelope;

const KEY: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";

fn inner() -> (KeyId, BackingKey) {
    let id = KEY.parse().unwrap();
    let material = Secret::filled(|bytes: &mut [u8; 32]| bytes.fill(7));
    (id, BackingKey::from_material(id, 1, Timestamp(0), material))
}

fn context(value: &str) -> EncryptionContext {
    EncryptionContext::from_pairs([("container", value)]).unwrap()
}

/// The blob of a proxy that answers with the inner text itself.
fn blob(text: &InnerText, vector: &[u8], metadata: &[u8]) -> Result<Vec<u8>, InvalidBlob> {
    let parts = ProxyParts {
        vector,
        metadata,
        ciphertext: text.bytes(),
        tag: &[9; 16],
    };
    encode(&text.header(), &parts)
}

fn sealed(length: usize) -> InnerText {
    let (id, inner) = inner();
    let text = vec![5; length];
    InnerText::seal(id, &inner, &context("1"), &text, &Entropy::os()).unwrap()
}

#[test]
fn a_blob_parses_as_it_was_encoded() {
    for (length, vector, metadata) in [(1, 12, 0), (32, 16, 20), (4096, 12, 17)] {
        let text = sealed(length);
        assert_eq!(text.bytes().len(), length + INNER_OVERHEAD_BYTES);
        let bytes = blob(&text, &vec![1; vector], &vec![2; metadata]).unwrap();
        assert_eq!(bytes.len(), 26 + vector + metadata + 40 + length + 16);
        assert_eq!(bytes[..4], [1, 4, 0, 0]);
        let parsed = ExternalBlob::parse(&bytes).unwrap();
        assert_eq!(parsed.header(), text.header());
        assert_eq!(parsed.plaintext_bytes(), length);
        assert_eq!(parsed.bytes(), bytes);
        let parts = parsed.parts();
        assert_eq!(parts.vector, vec![1; vector]);
        assert_eq!(parts.metadata, vec![2; metadata]);
        assert_eq!((parts.ciphertext, parts.tag), (text.bytes(), &[9; 16]));
        assert!(matches!(AnyBlob::parse(&bytes), Ok(AnyBlob::External(_))));
        // It is not one that a key of this daemon opens.
        assert!(CiphertextBlob::parse(&bytes).is_err());
    }
}

#[test]
fn other_layouts_are_refused() {
    let good = blob(&sealed(1), &[1; 12], &[2; 3]).unwrap();
    for (at, value, what) in [
        (0, 2, "version"),
        (1, 1, "algorithm"),
        (1, 3, "algorithm"),
        (1, 5, "algorithm"),
        (3, 2, "flag"),
        (23, 0, "generation"),
        (24, 0, "vector"),
        (24, 13, "vector"),
        (24, 255, "vector"),
        (25, 21, "metadata"),
        (25, 255, "metadata"),
        // A byte more of metadata leaves none of the plaintext.
        (25, 4, "plaintext"),
    ] {
        let mut bytes = good.clone();
        bytes[at] = value;
        assert!(ExternalBlob::parse(&bytes).is_err(), "{what} {value}");
    }
    for length in 0..good.len() {
        assert!(ExternalBlob::parse(&good[..length]).is_err(), "{length}");
    }
    let longest = blob(&sealed(4096), &[1; 12], &[]).unwrap();
    let longer = [longest.as_slice(), &[0]].concat();
    assert!(ExternalBlob::parse(&longer).is_err());
    for (vector, metadata) in [(11, 0), (300, 0), (12, 21), (12, 300)] {
        let made = blob(&sealed(1), &vec![1; vector], &vec![2; metadata]);
        assert_eq!(made, Err(InvalidBlob));
    }
}

#[test]
fn xks_4_the_inner_text_opens_here_alone_and_with_all_that_it_is_bound_to() {
    let (id, inner) = inner();
    let entropy = Entropy::os();
    let text = InnerText::seal(id, &inner, &context("1"), b"text", &entropy).unwrap();
    let open = |id, key: &BackingKey, value: &str, text: &[u8]| {
        let opened = open_inner(id, key, &context(value), text);
        opened.map(|opened| opened.expose().to_vec())
    };
    assert_eq!(open(id, &inner, "1", text.bytes()), Ok(b"text".to_vec()));
    assert_eq!(open(id, &inner, "2", text.bytes()), Err(OpenError));
    let other = KeyId::from_random([1; 16]);
    assert_eq!(open(other, &inner, "1", text.bytes()), Err(OpenError));
    let material = Secret::filled(|bytes: &mut [u8; 32]| bytes.fill(8));
    let others = BackingKey::from_material(id, 1, Timestamp(0), material);
    assert_eq!(open(id, &others, "1", text.bytes()), Err(OpenError));
    for at in 0..text.bytes().len() {
        let mut edited = text.bytes().to_vec();
        edited[at] ^= 1;
        assert_eq!(open(id, &inner, "1", &edited), Err(OpenError), "{at}");
    }
    for length in [0, 23, 24, 40] {
        let short = &text.bytes()[..length];
        assert_eq!(open(id, &inner, "1", short), Err(OpenError), "{length}");
    }
    // As a blob of its own it does not open: its header says that a proxy has to decrypt it first.
    let header = BlobHeader::of(id, &inner).encode();
    let alone = [header.as_slice(), text.bytes()].concat();
    let alone = CiphertextBlob::parse(&alone).unwrap();
    let opened = envelope::open(id, &inner, &context("1"), &alone);
    assert!(opened.is_err());
}

#[test]
fn seal_4_a_minted_inner_text_opens_to_a_data_key() {
    let (id, inner) = inner();
    let mint = |length| {
        let length = DataKeyLength::new(length).unwrap();
        InnerText::mint(id, &inner, length, &context("1"), &Entropy::os()).unwrap()
    };
    for length in [1, 16, 32, 1024] {
        let text = mint(length);
        let opened = open_inner(id, &inner, &context("1"), text.bytes()).unwrap();
        assert_eq!(opened.expose().len(), length);
        assert_eq!(text.header(), BlobHeader::external(id, &inner));
        assert_ne!(mint(length).bytes(), text.bytes());
    }
}

#[test]
fn the_proxy_is_bound_to_header_and_context() {
    let (id, inner) = inner();
    let header = BlobHeader::external(id, &inner);
    let data = additional_data(&header, &context("1"));
    assert_eq!(data[..24], header.encode());
    assert_eq!(
        hex_simd::encode_to_string(&data[24..], hex_simd::AsciiCase::Lower),
        // SHA-256 of 0001 0009 "container" 0001 "1".
        DIGEST
    );
    assert_ne!(additional_data(&header, &context("2")), data);
    // A context of any length fits what a proxy must take.
    let long = context(&"x".repeat(8000));
    assert_eq!(additional_data(&header, &long).len(), ADDITIONAL_BYTES);
}

/// A blob that another implementation made, in Python: the inner text opens, and the rest is where
/// it must be.
#[test]
fn seal_2_a_frozen_blob_is_read() {
    let (id, inner) = inner();
    let bytes = hex_simd::decode_to_vec(FROZEN).unwrap();
    let blob = ExternalBlob::parse(&bytes).unwrap();
    let parts = blob.parts();
    assert_eq!((parts.vector, parts.metadata), (&[1; 12][..], &[2; 3][..]));
    let opened = open_inner(id, &inner, &context("1"), parts.ciphertext).unwrap();
    assert_eq!(opened.expose(), [5; 4]);
}

const DIGEST: &str = "a8643e03e5cc74e5ca32aa9ef2147c6c0a966691850a34c8fdfd8325cb2de1ad";
const FROZEN: &str = "010400001234abcd12ab34cd56ef1234567890ab000000010c030101010101010101010101010202020303030303030303030303030303030303030303030303037dac372989907ffe2a6d148bcc53646be9ba3e2209090909090909090909090909090909";
