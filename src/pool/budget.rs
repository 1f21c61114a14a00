//! The pooled keys that all lanes together may hold (POOL-2), and what is taken back for those who
//! have none.
//!
//! Who comes first gets room, and a budget that is used up refuses the rest: they miss, and are
//! served all the same. Once a second the refused are looked at. An account that holds less than
//! its share, the budget divided among all accounts that want some, gets room from those that hold
//! more than theirs, whose idlest lanes go. An account that has its share gets room from its own
//! lanes that nobody has taken from for a minute. Room that was made is kept for a second for whom
//! it was made. So neither many keys of one tenant nor keys that were used once keep others out.
//!
//! What this module does not do: drop keys, or decide how large a lane should be.

use super::lane::{Lane, LaneId};
use crate::key::arn::AccountId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Accounts that are remembered as refused between two ticks; others come with their next miss.
const REFUSED_MAX: usize = 16;
/// How long nobody has taken from a lane that goes for another of its own account.
pub(super) const SPARE_AFTER: Duration = Duration::from_secs(60);

/// In magazines.
pub(super) struct Budget {
    whole: usize,
    granted: usize,
    /// What each account was refused since the last tick, at most.
    refused: BTreeMap<AccountId, usize>,
    /// What was made room for at the last tick.
    promised: BTreeMap<AccountId, usize>,
}

impl Budget {
    pub(super) fn new(whole: usize) -> Self {
        Self {
            whole,
            granted: 0,
            refused: BTreeMap::new(),
            promised: BTreeMap::new(),
        }
    }

    /// Grants room to a lane of `account`, or remembers that there was none.
    pub(super) fn grant(&mut self, account: AccountId, magazines: usize) -> bool {
        let mine = self.promised.remove(&account).unwrap_or_default();
        let others: usize = self.promised.values().sum();
        let granted = self.granted + magazines + others <= self.whole;
        let left = match granted {
            true => mine.saturating_sub(magazines),
            false => mine,
        };
        if left > 0 {
            self.promised.insert(account, left);
        }
        if granted {
            self.granted += magazines;
        } else if self.refused.len() < REFUSED_MAX || self.refused.contains_key(&account) {
            let most = self.refused.entry(account).or_default();
            *most = magazines.max(*most);
        }
        granted
    }

    pub(super) fn give_back(&mut self, magazines: usize) {
        self.granted = self.granted.saturating_sub(magazines);
    }

    #[cfg(test)]
    pub(super) fn granted(&self) -> usize {
        self.granted
    }

    /// The lanes that are to go for those that were refused since the last call, for whom the room
    /// is kept until the next one.
    pub(super) fn spare(
        &mut self,
        lanes: &BTreeMap<LaneId, Arc<Lane>>,
        now: Duration,
    ) -> BTreeSet<LaneId> {
        self.promised.clear();
        let refused = std::mem::take(&mut self.refused);
        let mut gone = BTreeSet::new();
        if refused.is_empty() {
            return gone;
        }
        let mut held: BTreeMap<_, _> = refused.keys().map(|account| (*account, 0)).collect();
        for lane in lanes.values() {
            *held.entry(lane.account).or_default() += lane.capacity();
        }
        let share = self.whole / held.len();
        let mut idlest: Vec<_> = lanes.values().collect();
        idlest.sort_by_key(|lane| Reverse(lane.idle(now)));
        let mut room = self.whole.saturating_sub(self.granted);
        for (account, wanted) in refused {
            let has_share = held[&account] + wanted > share;
            for lane in &idlest {
                if room >= wanted {
                    break;
                }
                let goes = match has_share {
                    true => lane.account == account && lane.idle(now) > SPARE_AFTER,
                    false => lane.account != account && held[&lane.account] > share,
                };
                if goes && gone.insert(lane.id) {
                    room += lane.capacity();
                    *held.entry(lane.account).or_default() -= lane.capacity();
                }
            }
            if room >= wanted {
                room -= wanted;
                self.promised.insert(account, wanted);
            }
        }
        gone
    }
}
