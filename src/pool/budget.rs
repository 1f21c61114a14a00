//! The pooled keys that all lanes together may hold (POOL-2), and how room is taken back for
//! accounts that have none.
//!
//! Room is given in the order of requests. When the budget is used up, further lanes are refused:
//! their requests miss and are served all the same. Once a second the refused accounts are looked
//! at. An account that holds less than its share (the budget divided among all accounts that want
//! room) gets room from accounts that hold more than theirs, whose idlest lanes are dropped. An
//! account that has its share gets room from its own lanes that were not used for a minute. The
//! room is reserved for that account for a second. So neither the many keys of one tenant nor keys
//! that were used once keep others out.
//!
//! This module does not drop keys and does not decide how large a lane should be.

use super::lane::{Lane, LaneId};
use crate::key::arn::AccountId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How many refused accounts are remembered between two ticks; others are remembered at their next
/// miss.
const REFUSED_MAX: usize = 16;
/// A lane that was not used for this long may be dropped for another lane of its own account.
pub(super) const SPARE_AFTER: Duration = Duration::from_secs(60);

/// The budget, counted in magazines.
pub(super) struct Budget {
    whole: usize,
    granted: usize,
    /// The largest request of each account that was refused since the last tick.
    refused: BTreeMap<AccountId, usize>,
    /// The room that the last tick reserved for each account.
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

    /// Grants room to a lane of `account`, or remembers the refusal.
    pub(super) fn grant(&mut self, account: AccountId, magazines: usize) -> bool {
        let mine = self.promised.remove(&account).unwrap_or_default();
        let others: usize = self.promised.values().sum();
        let granted = self.granted + magazines + others <= self.whole;
        let left = if granted {
            mine.saturating_sub(magazines)
        } else {
            mine
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

    /// Chooses the lanes to drop for the accounts that were refused since the last call. The room
    /// is reserved for these accounts until the next call.
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
        // What every account would hold if all went as planned, the refused ones included.
        let mut held: BTreeMap<_, _> = refused.keys().map(|account| (*account, 0)).collect();
        for lane in lanes.values() {
            *held.entry(lane.account).or_default() += lane.capacity();
        }
        let share = self.whole / held.len();
        let mut idlest: Vec<_> = lanes.values().collect();
        idlest.sort_by_key(|lane| Reverse(lane.idle(now)));
        let mut room = self.whole.saturating_sub(self.granted);
        for (account, wanted) in refused {
            // An account at its share may displace its own idle lanes only; others take from
            // accounts that are above theirs.
            let has_share = held[&account] + wanted > share;
            for lane in &idlest {
                if room >= wanted {
                    break;
                }
                let goes = if has_share {
                    lane.account == account && lane.idle(now) > SPARE_AFTER
                } else {
                    lane.account != account && held[&lane.account] > share
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
