use super::*;
use crate::crypto::ber::tests::{Form, in_ber};
use crate::crypto::entropy::probed;

#[test]
fn pairs_of_every_spec_are_read_back_from_their_der() {
    for spec in PairSpec::ALL {
        assert_eq!(spec.name().parse(), Ok(spec));
        let made = PrivateKey::generate(spec, probed()).unwrap();
        let der = made.expose_der();
        let read = PrivateKey::from_der(spec, SecretBytes::copy_of(der)).unwrap();
        assert_eq!(read.public_der(), made.public_der(), "{spec:?}");
        let shorter = PrivateKey::from_der(spec, SecretBytes::copy_of(&der[..der.len() - 1]));
        assert_eq!(shorter.err(), Some(PairError), "{spec:?}");
        for other in PairSpec::ALL.into_iter().filter(|other| *other != spec) {
            let taken = PrivateKey::from_der(other, SecretBytes::copy_of(der));
            assert_eq!(taken.err(), Some(PairError), "{spec:?} as {other:?}");
        }
    }
    assert!("SM3".parse::<PairSpec>().is_err());
    assert!(PairSpec::ALL.starts_with(&PairSpec::DATA_KEYS));
    let mut all = PairSpec::ALL.into_iter();
    assert!(all.all(|spec| PairSpec::ALL[spec as usize] == spec));
    let elsewhere = PairSpec::ALL.into_iter().filter(|spec| !spec.is_in_china());
    assert!(elsewhere.eq([PairSpec::MlKem512, PairSpec::MlKem768, PairSpec::MlKem1024]));
}

#[test]
fn a_key_with_a_seed_is_stored_as_its_seed_and_not_imported() {
    for spec in PairSpec::quick() {
        let key = PrivateKey::generate(spec, probed()).unwrap();
        let stored = SecretBytes::copy_of(key.expose_stored());
        let read = PrivateKey::from_stored(spec, stored).unwrap();
        assert_eq!(read.expose_der(), key.expose_der(), "{spec:?}");
        assert_eq!(read.public_der(), key.public_der(), "{spec:?}");
        let Some(bytes) = spec.seed_bytes() else {
            assert_eq!(key.expose_stored(), key.expose_der(), "{spec:?}");
            continue;
        };
        assert_eq!(key.expose_stored().len(), bytes, "{spec:?}");
        let imported = PrivateKey::import(spec, key.expose_der());
        assert_eq!(imported.err(), Some(PairError), "{spec:?}");
        for length in [0, bytes - 1, bytes + 1] {
            let other = SecretBytes::filled(length, |seed| seed.fill(7));
            let read = PrivateKey::from_stored(spec, other);
            assert_eq!(read.err(), Some(PairError), "{spec:?} {length}");
        }
    }
}

/// One value of DER.
fn value(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = u16::try_from(contents.len()).unwrap().to_be_bytes();
    let header = match length {
        [0, short @ ..=0x7f] => vec![tag, short],
        [0, long] => vec![tag, 0x81, long],
        [high, low] => vec![tag, 0x82, high, low],
    };
    [&header, contents].concat()
}

/// The values in a string or in a SEQUENCE, each with its header.
fn inside(der: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let header = |der: &[u8]| match der[1] {
        0x82 => (4, usize::from(u16::from_be_bytes([der[2], der[3]]))),
        0x81 => (3, der[2].into()),
        short => (2, short.into()),
    };
    let contents = der[header(der).0..].to_vec();
    let (mut rest, mut members) = (&contents[..], Vec::new());
    while der[0] == SEQUENCE && !rest.is_empty() {
        let (head, length) = header(rest);
        let (member, more) = rest.split_at(head + length);
        members.push(member.to_vec());
        rest = more;
    }
    (contents, members)
}

const SEQUENCE: u8 = 0x30;
const VERSION_2: &[u8] = &[2, 1, 1];

/// The same key as other programs write it, and as one that lies.
fn forms(key: &PrivateKey) -> (Vec<(&'static str, Vec<u8>)>, Vec<u8>) {
    let parts = inside(key.expose_der()).1;
    let [version, algorithm, private] = &parts[..] else {
        panic!("not as it is generated");
    };
    let sequence = |parts: &[&[u8]]| value(SEQUENCE, &parts.concat());
    // An attribute of an unknown name, and an empty set of values.
    let attributes = value(0xa0, &sequence(&[&[6, 1, 42], &[0x31, 0]]));
    let mut bits = inside(&inside(key.public_der()).1[1]).0;
    let with = |bits: &[u8]| sequence(&[VERSION_2, algorithm, private, &value(0x81, bits)]);
    let mut forms = vec![
        ("as generated", key.expose_der().to_vec()),
        (
            "with an attribute",
            sequence(&[version, algorithm, private, &attributes]),
        ),
        ("version 2", with(&bits)),
        (
            "version 2 without a public key",
            sequence(&[VERSION_2, algorithm, private, &attributes]),
        ),
    ];
    *bits.last_mut().unwrap() ^= 1;
    let lying = with(&bits);
    if matches!(key.spec.family(), Family::Weierstrass | Family::Sm2) {
        let inner = inside(&inside(private).0).1;
        let scalar = inner[..2].concat();
        let curve = value(0xa0, &inside(algorithm).1[1]);
        let of = |parts: &[&[u8]]| sequence(&[version, algorithm, &value(4, &sequence(parts))]);
        forms.push(("without its public key", of(&[&scalar])));
        forms.push(("with its curve again", of(&[&scalar, &curve, &inner[2]])));
        forms.push(("with its curve alone", of(&[&scalar, &curve])));
    }
    (forms, lying)
}

#[test]
fn an_imported_key_is_one_in_whatever_form_it_comes() {
    for spec in PairSpec::quick().filter(|spec| spec.is_importable()) {
        let key = PrivateKey::generate(spec, probed()).unwrap();
        let (forms, lying) = forms(&key);
        assert!(PrivateKey::import(spec, &lying).is_err(), "{spec:?}");
        for (form, bytes) in forms {
            let read = PrivateKey::import(spec, &bytes);
            let read = read.unwrap_or_else(|_| panic!("{spec:?} {form}"));
            assert_eq!(read.expose_der(), key.expose_der(), "{spec:?} {form}");
            assert_eq!(read.public_der(), key.public_der(), "{spec:?} {form}");
            let shorter = PrivateKey::import(spec, &bytes[..bytes.len() - 1]);
            assert_eq!(shorter.err(), Some(PairError), "{spec:?} {form}");
            let ber = in_ber(&bytes, &mut std::iter::repeat(Form::Indefinite));
            let read = PrivateKey::import(spec, &ber).map(|read| read.der);
            match spec.family() {
                Family::Edwards => assert_eq!(read.err(), Some(PairError), "{form}"),
                _ => {
                    assert_eq!(read.unwrap().expose(), key.expose_der(), "{spec:?} {form}");
                }
            }
        }
    }
}
