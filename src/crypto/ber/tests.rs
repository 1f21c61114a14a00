//! What is read as BER, and what becomes of it.

use super::*;
use crate::crypto::entropy::probed;
use crate::crypto::pair::{PairSpec, PrivateKey};
use proptest::prelude::*;
use std::sync::LazyLock;

/// One choice of a BER encoder.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// As in DER.
    Short,
    /// A length with leading zeros.
    LongLength,
    /// No length, and an end.
    Indefinite,
    /// A string in parts, which have a length together.
    Parts,
    /// A string in parts, without a length.
    IndefiniteParts,
}

/// The private key in BER, each value in the next form that fits it.
pub(crate) fn in_ber(der: &[u8], forms: &mut dyn Iterator<Item = Form>) -> Vec<u8> {
    let mut rest = der;
    let ber = rewritten(&mut rest, forms, 0);
    assert!(rest.is_empty());
    ber
}

fn rewritten(der: &mut &[u8], forms: &mut dyn Iterator<Item = Form>, depth: usize) -> Vec<u8> {
    let tag = byte(der).unwrap();
    let length = length(der).unwrap().unwrap();
    let mut contents = taken(der, length).unwrap();
    let is_member = tag == OCTET_STRING && depth == MEMBER_DEPTH;
    let mut inside = Vec::new();
    if tag & CONSTRUCTED != 0 || is_member {
        while !contents.is_empty() {
            inside.extend(rewritten(&mut contents, forms, depth + 1));
        }
    } else {
        inside.extend_from_slice(contents);
    }
    let is_constructed = tag & CONSTRUCTED != 0;
    let is_string = matches!(tag, OCTET_STRING | BIT_STRING);
    let wrapped = |tag: u8, inside: &[u8], is_indefinite: bool| {
        let length = u16::try_from(inside.len()).unwrap().to_be_bytes();
        if is_indefinite {
            return [&[tag, 0x80], inside, &END_OF_CONTENTS].concat();
        }
        [&[tag, 0x84, 0, 0], &length[..], inside].concat()
    };
    match forms.next().unwrap() {
        Form::LongLength => wrapped(tag, &inside, false),
        Form::Indefinite if is_constructed => wrapped(tag, &inside, true),
        form @ (Form::Parts | Form::IndefiniteParts) if is_string => {
            let whole = inside.strip_prefix(&[0][..usize::from(tag == BIT_STRING)]);
            let parts = whole.unwrap().chunks(40).map(|part| {
                let unused: &[u8] = if tag == BIT_STRING { &[0] } else { &[] };
                wrapped(tag, &[unused, part].concat(), false)
            });
            let parts: Vec<u8> = parts.flatten().collect();
            let is_indefinite = matches!(form, Form::IndefiniteParts);
            wrapped(tag | CONSTRUCTED, &parts, is_indefinite)
        }
        Form::Short | Form::Indefinite | Form::Parts | Form::IndefiniteParts => {
            let mut short = inside;
            put_header(&mut short, 0, tag).unwrap();
            short
        }
    }
}

fn forms() -> impl Strategy<Value = Vec<Form>> {
    let one = prop_oneof![
        Just(Form::Short),
        Just(Form::LongLength),
        Just(Form::Indefinite),
        Just(Form::Parts),
        Just(Form::IndefiniteParts),
    ];
    prop::collection::vec(one, 1..40)
}

/// A private key of each family, in DER.
static KEYS: LazyLock<[Vec<u8>; 3]> = LazyLock::new(|| {
    [
        PairSpec::Rsa2048,
        PairSpec::EccNistP256,
        PairSpec::EccNistEdwards25519,
    ]
    .map(|spec| {
        let key = PrivateKey::generate(spec, probed()).unwrap();
        key.expose_der().to_vec()
    })
});

proptest! {
    #[test]
    fn every_form_of_a_key_becomes_its_der(forms in forms().no_shrink()) {
        for der in KEYS.iter() {
            let ber = in_ber(der, &mut forms.iter().copied().cycle());
            let read = private_key(&ber).unwrap();
            prop_assert_eq!(read.expose(), der);
            for length in 0..ber.len() {
                prop_assert!(private_key(&ber[..length]).is_none());
            }
            prop_assert!(private_key(&[&ber[..], &[0]].concat()).is_none());
        }
    }

    #[test]
    fn whatever_comes_is_read_within_its_bounds(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let version_1 = version_1(&bytes);
        prop_assert!(version_1.is_none_or(|read| read.der.expose().len() <= bytes.len()));
        prop_assert!(public_key_of(&bytes).is_none_or(|key| key.len() < bytes.len()));
        if let Some(der) = private_key(&bytes) {
            prop_assert!(der.expose().len() <= 2 * bytes.len());
            let again = private_key(der.expose()).unwrap();
            prop_assert_eq!(again.expose(), der.expose());
        }
    }
}

#[test]
fn what_is_no_ber_is_refused() {
    let nested = |levels: usize| [[0x30, 0x80].repeat(levels), vec![0; 2 * levels]].concat();
    assert!(private_key(&nested(DEPTH_MAX)).is_some());
    for (what, bytes) in [
        ("nothing", &[][..]),
        ("no length", &[0x30]),
        ("a length beyond the end", &[0x30, 1]),
        ("a length that has no end", &[0x30, 0x84, 0, 0]),
        (
            "a length beyond memory",
            &[0x30, 0x89, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        ("a reserved length", &[0x30, 0xff]),
        ("an integer without a length", &[2, 0x80, 0, 0]),
        ("no end", &[0x30, 0x80, 2, 1, 0]),
        ("an end that is none", &[0x30, 0x80, 0, 1, 0]),
        ("an end where a value is due", &[0x30, 2, 0, 0]),
        ("a tag of several bytes", &[0x3f, 0x81, 1, 0]),
        ("an integer in a string", &[0x24, 3, 2, 1, 0]),
        ("a string of half a byte", &[0x23, 4, 3, 2, 4, 0xf0]),
        ("too deep", &nested(DEPTH_MAX + 1)),
    ] {
        assert!(private_key(bytes).is_none(), "{what}");
    }
}
