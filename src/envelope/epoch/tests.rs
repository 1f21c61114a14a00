//! How an epoch advances and ends, and what it leaves in memory.

use super::*;
use crate::clock::Timestamp;
use std::sync::Weak;

fn epoch() -> Epoch {
    let key_id = KeyId::from_random([1; 16]);
    let material = Secret::<32>::filled(|bytes| bytes.fill(2));
    let key = BackingKey::from_material(key_id, 1, Timestamp(0), material);
    Epoch::begin(key_id, &key, &Entropy::os(), Duration::ZERO).unwrap()
}

const LONGEST: usize = DataKeyLength::BYTES_MAX;

fn length(bytes: usize) -> DataKeyLength {
    DataKeyLength::new(bytes).unwrap()
}

#[test]
fn seal_1_an_epoch_ends_at_its_last_block() {
    // A 1,024-byte key counts 64 blocks of keystream and one of mask.
    let mut run = epoch();
    let count = usize::try_from(EPOCH_BLOCKS_MAX).unwrap() / 65;
    run.blocks = EPOCH_BLOCKS_MAX - 65;
    assert!(run.mint(length(LONGEST), 1, Duration::ZERO).is_ok());
    assert_eq!(
        run.mint(length(1), 1, Duration::ZERO).err(),
        Some(EpochEnded)
    );
    let mut run = epoch();
    let too_many = run.mint(length(LONGEST), count + 1, Duration::ZERO);
    assert_eq!(too_many.err(), Some(EpochEnded));
    assert_eq!((run.index, run.blocks), (0, 0), "a refusal uses nothing up");
}

#[test]
fn seal_1_more_keys_than_indices_end_an_epoch_instead_of_wrapping() {
    for count in [1 << 24, 1 << 32, usize::MAX / 64, usize::MAX] {
        let refused = epoch().mint(length(LONGEST), count, Duration::ZERO);
        assert_eq!(refused.err(), Some(EpochEnded), "{count}");
    }
}

#[test]
fn seal_1_an_epoch_ends_after_its_time() {
    let mut run = epoch();
    let last = EPOCH_DURATION_MAX - Duration::from_nanos(1);
    assert!(run.mint(length(32), 1, last).is_ok());
    for now in [EPOCH_DURATION_MAX, Duration::MAX] {
        assert_eq!(run.mint(length(32), 1, now).err(), Some(EpochEnded));
    }
}

#[test]
fn blocks_are_counted_at_the_length_that_decrypt_will_use() {
    for (bytes, blocks) in [(1, 2), (16, 2), (17, 3), (32, 3), (1024, 65)] {
        let mut run = epoch();
        run.mint(length(bytes), 10, Duration::ZERO).unwrap();
        assert_eq!((run.index, run.blocks), (10, blocks * 10), "{bytes}");
    }
}

#[test]
fn pool_9_a_mask_is_wiped_where_it_lay_when_its_key_leaves() {
    let context = EncryptionContext::default();
    let mut keys = epoch().mint(length(32), 4, Duration::ZERO).unwrap();
    let wiped = |keys: &MintedKeys| {
        keys.masks
            .iter()
            .map(|m| *m == Block::default())
            .collect::<Vec<_>>()
    };
    assert_eq!(wiped(&keys), vec![false; 4]);
    let key = keys.take().unwrap();
    assert_ne!(key.mask, Block::default());
    assert_eq!(wiped(&keys), [true, false, false, false]);
    keys.bind_many(2, &context, &mut Vec::new());
    assert_eq!(wiped(&keys), [true, true, true, false]);
}

#[test]
fn pool_9_the_ghash_key_goes_with_the_last_key_of_the_epoch() {
    let mut run = epoch();
    let context = EncryptionContext::default();
    let binder: Weak<Binder> = Arc::downgrade(&run.binder);
    let mut taken = run.mint(length(32), 2, Duration::ZERO).unwrap();
    let mut bound = run.mint(length(32), 2, Duration::ZERO).unwrap();
    let mut cleared = run.mint(length(32), 2, Duration::ZERO).unwrap();
    let mut refused = run.mint(length(32), 2, Duration::ZERO).unwrap();
    let err = run.mint_into(&mut refused, length(32), 1, Duration::MAX);
    assert_eq!((err, refused.len()), (Err(EpochEnded), 0));
    let empty = run.mint(length(32), 0, Duration::ZERO).unwrap();
    drop(run);

    bound.bind_many(9, &context, &mut Vec::new());
    cleared.clear();
    let last = (taken.take(), taken.take());
    assert!(taken.take().is_none());
    drop(last.0);
    assert!(binder.upgrade().is_some(), "one key is left");
    last.1.unwrap().bind(&context, &mut Vec::new());
    // The empty magazines stay, to be filled again, and hold nothing of the epoch.
    assert!(binder.upgrade().is_none());
    drop((taken, bound, cleared, refused, empty));
}

#[test]
fn pool_9_round_keys_are_wiped_by_their_crate() {
    fn wiped<T: zeroize::ZeroizeOnDrop>() {}
    wiped::<aes::Aes256>();
    wiped::<aes_gcm::Aes256Gcm>();
}

#[test]
fn heap_bytes_are_48_a_key_of_32_and_buffers_are_kept() {
    let mut run = epoch();
    let mut keys = run.mint(length(32), 64, Duration::ZERO).unwrap();
    assert_eq!(keys.heap_bytes(), 64 * 48);
    let buffers = (keys.ciphertexts.as_ptr(), keys.masks.as_ptr());
    run.mint_into(&mut keys, length(16), 64, Duration::ZERO)
        .unwrap();
    assert_eq!(buffers, (keys.ciphertexts.as_ptr(), keys.masks.as_ptr()));
    assert_eq!((keys.len(), keys.index), (64, 64));
}

#[test]
fn seal_4_minting_draws_the_ciphertexts_and_computes_masks_alone() {
    let mut run = epoch();
    let mut generator = run.ciphertexts.clone();
    let mut keys = run.mint(length(33), 3, Duration::ZERO).unwrap();
    let mut drawn = vec![0; 3 * 33];
    generator.fill_bytes(&mut drawn);
    assert_eq!(keys.ciphertexts, drawn);
    let mut masks: Vec<Block> = (0..3)
        .map(|index| first_counter_block(&run.binder.start, index))
        .collect();
    run.key.mask(&mut masks);
    assert_eq!(keys.masks, masks);
    for expected in drawn.chunks(33) {
        assert_eq!(keys.take().unwrap().ciphertext.bytes(), expected);
    }
}
