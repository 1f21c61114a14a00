//! How the accounts share the pool's budget.

use super::*;

/// The keys of one tenant have filled the pool. Another tenant gets its share, and all lanes stay
/// within the budget.
#[test]
fn pool_2_no_account_keeps_the_others_out_of_the_pool() {
    let mut bench = Bench::new(small());
    let many: Vec<_> = (0..8).map(|number| entry(number, 1)).collect();
    for entry in &many {
        assert!(bench.take(entry).is_none());
    }
    bench.fill();
    assert_eq!(bench.depth(), 2048, "the budget is used, by one account");
    let lane_of = |bench: &Bench, entry: &KeyEntry| {
        let id = entry.key.id.to_string();
        let lanes = bench.pool.lanes();
        lanes.into_iter().find(|lane| lane.lane.starts_with(&id))
    };
    // In turns, so that each lane of the first account is in constant use.
    let others: Vec<_> = (20..30)
        .map(|number| of_account(number, "444455556666"))
        .collect();
    for second in 1..20 {
        bench.clock.advance(Duration::from_secs(1));
        bench.pool.tick();
        for entry in many.iter().chain(&others) {
            bench.take(entry);
        }
        bench.fill();
        assert!(
            bench.depth() <= 2048 && lock(&bench.pool.growing).granted() * 64 <= 2048,
            "{second}"
        );
    }
    let held = |bench: &Bench, entries: &[Arc<KeyEntry>]| -> usize {
        let lanes = entries.iter().filter_map(|entry| lane_of(bench, entry));
        lanes.map(|lane| lane.capacity).sum()
    };
    assert_eq!((held(&bench, &many), held(&bench, &others)), (1024, 1024));
}

/// Within one account, lanes that were not used for a minute make room for lanes that are used.
#[test]
fn pool_2_keys_that_were_used_once_keep_no_others_out() {
    let mut bench = Bench::new(small());
    for number in 0..8 {
        assert!(bench.take(&entry(number, 1)).is_none());
    }
    bench.fill();
    let late = entry(9, 1);
    let is_served = |bench: &mut Bench, seconds| {
        bench.clock.advance(Duration::from_secs(seconds));
        bench.take(&late);
        bench.pool.tick();
        bench.take(&late);
        bench.fill();
        bench.take(&late).is_some()
    };
    assert!(!is_served(&mut bench, 30), "they may come back");
    assert!(is_served(&mut bench, 31));
    assert_eq!(bench.pool.lanes().len(), 8, "one went for it");
}

/// For a key that was disabled or deleted, the lane, its room in the budget and its metrics series
/// go within a minute.
#[test]
fn pool_2_lanes_of_keys_that_are_gone_go() {
    let (gone, here) = (entry(1, 1), entry(2, 1));
    let mut bench = Bench::warm(small(), &gone);
    assert!(bench.take(&here).is_none());
    bench.fill();
    bench.pool.purge(gone.key.id);
    bench.clock.advance(Duration::from_secs(59));
    bench.pool.tick();
    assert_eq!(bench.pool.lanes().len(), 2, "it may be enabled again");
    bench.clock.advance(Duration::from_secs(2));
    bench.pool.tick();
    let lanes = bench.pool.lanes();
    assert_eq!(lanes.len(), 1);
    assert!(lanes[0].lane.starts_with(&here.key.id.to_string()));
    assert_eq!(lock(&bench.pool.growing).granted() * 64, lanes[0].capacity);
}
