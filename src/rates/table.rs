//! Buckets by name: those with a rate of their own, which the configuration names; and those of all
//! other names, which come and go.

use crate::rates::bucket::{Bucket, Rate, Refused, Urgency};
use arc_swap::ArcSwap;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::time::Duration;

/// Parts of a table: adding a bucket copies the pointers of one of them.
const PARTS: usize = 64;
/// Buckets of a part at most: 65,536 in the whole table, of some 100 bytes each. Which part a name
/// falls into is keyed, so a caller cannot fill one on purpose.
const PART_BUCKETS_MAX: usize = 1024;
/// How long a bucket is full before it is removed: a caller that asks every other second should not
/// add it anew each time.
const IDLE: Duration = Duration::from_secs(60);

/// The buckets of one kind of name.
pub(super) struct Table<K> {
    limits: ArcSwap<Limits<K>>,
    hasher: RandomState,
    parts: Box<[Part<K>]>,
    /// Of all who come when their part has no room.
    overflow: Bucket,
}

type Part<K> = ArcSwap<HashMap<K, Arc<Bucket>>>;

/// The rates in force.
struct Limits<K> {
    /// Names with a rate of their own, or with none.
    own: HashMap<K, Option<(Rate, Arc<Bucket>)>>,
    /// The rate of all others.
    rate: Option<Rate>,
}

impl<K: Hash + Eq + Clone> Table<K> {
    /// Names with a rate of their own (`None`: without a limit), and the rate of all others.
    pub(super) fn new(rate: Option<Rate>, own: impl Iterator<Item = (K, Option<Rate>)>) -> Self {
        let table = Self {
            limits: ArcSwap::from_pointee(Limits {
                own: HashMap::new(),
                rate: None,
            }),
            hasher: RandomState::new(),
            parts: (0..PARTS).map(|_| Part::default()).collect(),
            overflow: Bucket::full(Duration::ZERO),
        };
        table.set(rate, own);
        table
    }

    /// Replaces the rates. Buckets stay, so that a change gives nothing a second burst.
    pub(super) fn set(&self, rate: Option<Rate>, own: impl Iterator<Item = (K, Option<Rate>)>) {
        let before = self.limits.load();
        let bucket = |name: &K| match before.own.get(name) {
            Some(Some((_, bucket))) => Arc::clone(bucket),
            _ => Arc::new(Bucket::full(Duration::ZERO)),
        };
        let own = own.map(|(name, rate)| {
            let limited = rate.map(|rate| (rate, bucket(&name)));
            (name, limited)
        });
        let own = own.collect();
        self.limits.store(Arc::new(Limits { own, rate }));
    }

    /// The rate of this name; `None` is without a limit.
    pub(super) fn rate<Q>(&self, name: &Q) -> Option<Rate>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let limits = self.limits.load();
        match limits.own.get(name) {
            Some(own) => own.as_ref().map(|(rate, _)| *rate),
            None => limits.rate,
        }
    }

    /// Takes `keys` keys from the bucket of this name.
    ///
    /// # Errors
    /// How long to wait for them.
    pub(super) fn take<Q>(
        &self,
        name: &Q,
        keys: u64,
        urgency: Urgency,
        now: Duration,
    ) -> Result<(), Duration>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let limits = self.limits.load();
        let (rate, taken) = match limits.own.get(name) {
            Some(None) => return Ok(()),
            Some(Some((rate, bucket))) => (*rate, bucket.take(*rate, keys, urgency, now)),
            None => {
                let Some(rate) = limits.rate else {
                    return Ok(());
                };
                let part = self.part(name);
                let take = || {
                    let buckets = part.load();
                    let bucket = buckets.get(name).ok_or(Refused::Retired)?;
                    bucket.take(rate, keys, urgency, now)
                };
                let taken = take().or_else(|refused| match refused {
                    Refused::Retired => {
                        add(part, name, now);
                        take()
                    }
                    wait => Err(wait),
                });
                (rate, taken)
            }
        };
        match taken {
            Ok(()) => Ok(()),
            Err(Refused::Wait(wait)) => Err(wait),
            // Not even a new bucket is there: it found no room.
            Err(Refused::Retired) => match self.overflow.take(rate, keys, urgency, now) {
                Err(Refused::Wait(wait)) => Err(wait),
                Ok(()) | Err(Refused::Retired) => Ok(()),
            },
        }
    }

    fn part<Q: Hash + ?Sized>(&self, name: &Q) -> &Part<K> {
        let part = self.hasher.hash_one(name) % PARTS as u64;
        &self.parts[usize::try_from(part).unwrap_or_default()]
    }

    /// Removes the buckets that have been full for a while.
    pub(super) fn tick(&self, now: Duration) {
        for part in &self.parts {
            let mut retired = 0;
            for bucket in part.load().values() {
                retired += usize::from(bucket.retire(IDLE, now));
            }
            if retired > 0 {
                part.rcu(|buckets| {
                    let mut left = HashMap::clone(buckets);
                    left.retain(|_, bucket| !bucket.is_retired());
                    left
                });
            }
        }
    }

    /// Buckets that come and go.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.load().len()).sum()
    }
}

/// Adds a bucket of this name, unless there is one by now or no room for it.
fn add<K, Q>(part: &Part<K>, name: &Q, now: Duration)
where
    K: Borrow<Q> + Hash + Eq + Clone,
    Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
{
    part.rcu(|buckets| {
        let there = buckets.get(name).is_some_and(|bucket| !bucket.is_retired());
        let room = buckets.contains_key(name) || buckets.len() < PART_BUCKETS_MAX;
        if there || !room {
            return Arc::clone(buckets);
        }
        let mut next = HashMap::clone(buckets);
        next.insert(name.to_owned(), Arc::new(Bucket::full(now)));
        Arc::new(next)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// One key a second and at once.
    fn one() -> Option<Rate> {
        Rate::new(1, SECOND)
    }

    fn table(own: &[(&str, Option<Rate>)]) -> Table<String> {
        let own = own.iter().map(|(name, rate)| ((*name).to_owned(), *rate));
        Table::new(one(), own)
    }

    fn take(table: &Table<String>, name: &str, keys: u64, at_ms: u64) -> Result<(), Duration> {
        table.take(name, keys, Urgency::Online, Duration::from_millis(at_ms))
    }

    #[test]
    fn names_do_not_share_a_bucket() {
        let table = table(&[]);
        for name in ["a", "b", "c"] {
            assert_eq!(take(&table, name, 1, 0), Ok(()));
            assert_eq!(take(&table, name, 1, 0), Err(SECOND), "{name}");
        }
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn a_rate_of_ones_own_goes_before_that_of_all() {
        let table = table(&[("fast", Rate::new(10, SECOND)), ("free", None)]);
        assert_eq!(take(&table, "fast", 10, 0), Ok(()));
        assert_eq!(take(&table, "fast", 1, 0), Err(SECOND / 10));
        for _ in 0..1000 {
            assert_eq!(take(&table, "free", 1000, 0), Ok(()));
        }
        assert_eq!(table.len(), 0, "neither comes and goes");
        assert_eq!(table.rate("free"), None);
        assert_eq!(table.rate("other"), one());
    }

    #[test]
    fn a_change_of_rates_is_in_force_at_once_and_gives_no_second_burst() {
        let table = table(&[("own", Rate::new(10, SECOND))]);
        take(&table, "own", 10, 0).unwrap();
        take(&table, "a", 1, 0).unwrap();
        let own = [("own".to_owned(), Rate::new(2, SECOND))];
        table.set(Rate::new(2, SECOND), own.into_iter());
        assert_eq!(table.rate("own"), Rate::new(2, SECOND));
        // Full at 1 s, as before; with a burst of a second of 2 keys, the next one is there then.
        assert_eq!(take(&table, "own", 1, 0), Err(SECOND / 2));
        assert_eq!(take(&table, "own", 1, 500), Ok(()));
        // A second was taken of one key's bucket, and a key takes half a second now.
        assert_eq!(take(&table, "a", 1, 0), Err(SECOND / 2));
        assert_eq!(take(&table, "a", 1, 500), Ok(()));
        table.set(None, std::iter::empty());
        for name in ["own", "a"] {
            assert_eq!(take(&table, name, 1000, 500), Ok(()), "{name}");
        }
        // What was once without a limit, or without one of its own, has one again.
        table.set(one(), [("a".to_owned(), None)].into_iter());
        assert_eq!(take(&table, "own", 1, 500), Ok(()));
        assert_eq!(take(&table, "own", 1, 500), Err(SECOND));
        assert_eq!(take(&table, "a", 1000, 500), Ok(()));
    }

    #[test]
    fn without_a_rate_nothing_is_kept() {
        let table = Table::<String>::new(None, std::iter::empty());
        assert_eq!(take(&table, "a", u64::MAX, 0), Ok(()));
        assert_eq!((table.len(), table.rate("a")), (0, None));
    }

    #[test]
    fn a_bucket_goes_when_it_has_been_full_for_a_while_and_not_before() {
        let table = table(&[]);
        take(&table, "a", 1, 0).unwrap();
        // Full again after one second, idle for sixty.
        table.tick(Duration::from_millis(60_999));
        assert_eq!(table.len(), 1);
        table.tick(Duration::from_millis(61_000));
        assert_eq!(table.len(), 0);
        assert_eq!(take(&table, "a", 1, 61_000), Ok(()));
        assert!(take(&table, "a", 1, 61_000).is_err());
    }

    #[test]
    fn a_bucket_that_is_retired_but_not_yet_removed_is_replaced() {
        let table = table(&[]);
        take(&table, "a", 1, 0).unwrap();
        let bucket = Arc::clone(&table.part("a").load()["a"]);
        assert!(bucket.retire(Duration::ZERO, SECOND));
        assert_eq!(take(&table, "a", 1, 1000), Ok(()));
        assert!(take(&table, "a", 1, 1000).is_err());
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_part_has_so_many_at_most_and_whoever_comes_then_shares_one() {
        let table = table(&[]);
        let names = (0_u32..).map(|name| name.to_string());
        let mut names =
            names.filter(|name| std::ptr::eq(table.part(name.as_str()), &raw const table.parts[0]));
        for name in names.by_ref().take(PART_BUCKETS_MAX) {
            assert_eq!(take(&table, &name, 1, 0), Ok(()));
        }
        let late: Vec<_> = names.by_ref().take(3).collect();
        let taken = late.iter().map(|name| take(&table, name, 1, 0));
        assert_eq!(
            taken.collect::<Vec<_>>(),
            [Ok(()), Err(SECOND), Err(SECOND)]
        );
        assert_eq!(table.len(), PART_BUCKETS_MAX);
        table.tick(Duration::from_secs(61));
        assert_eq!(table.len(), 0);
        let taken = late.iter().map(|name| take(&table, name, 1, 61_000));
        assert_eq!(taken.collect::<Vec<_>>(), [Ok(()); 3]);
    }
}
