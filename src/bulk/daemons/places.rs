//! Which daemon a connection goes to: the one with the fewest, and none that was away a moment ago
//! while there is another.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a daemon is left alone that was away, the first time and at most.
const REST_MIN: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(30);

/// Where a daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The number of its endpoint, as the caller names them.
    pub(super) endpoint: usize,
    /// Its address, where the endpoint's name has several.
    pub(super) address: Option<SocketAddr>,
}

/// The daemons of a job, and how each does.
pub(super) struct Places(BTreeMap<Place, Standing>);

#[derive(Default)]
struct Standing {
    /// Those that are made, or on their way.
    connections: usize,
    /// Whether its name still has the address.
    is_listed: bool,
    /// Whether it has answered before.
    was_reached: bool,
    /// How often it was away since it has answered.
    losses: u32,
    /// The monotonic time until which others are preferred.
    away_until: Duration,
}

impl Standing {
    /// A connection more: of one that was away, the only one for a while.
    fn take(&mut self, now: Duration) {
        self.connections += 1;
        if self.losses > 0 {
            self.away_until = now + rest(self.losses);
        }
    }

    fn is_away(&self, now: Duration) -> bool {
        self.away_until > now
    }
}

fn rest(losses: u32) -> Duration {
    let doubled = 1_u32.checked_shl(losses.saturating_sub(1));
    REST_MIN
        .saturating_mul(doubled.unwrap_or(u32::MAX))
        .min(REST_MAX)
}

impl Places {
    /// So many endpoints, each at one place.
    #[must_use]
    pub(super) fn new(endpoints: usize) -> Self {
        let mut places = Self(BTreeMap::new());
        for endpoint in 0..endpoints {
            places.list(endpoint, &[]);
        }
        places
    }

    /// Takes over the addresses of an endpoint's name. A single one is none of its own: it may be
    /// another one at the next connection.
    pub(super) fn list(&mut self, endpoint: usize, addresses: &[SocketAddr]) {
        for (_, standing) in self.0.iter_mut().filter(|(at, _)| at.endpoint == endpoint) {
            standing.is_listed = false;
        }
        let several = addresses.iter().copied().map(Some);
        let single = (addresses.len() < 2).then_some(None);
        for address in several.filter(|_| single.is_none()).chain(single) {
            let place = Place { endpoint, address };
            self.0.entry(place).or_default().is_listed = true;
        }
        self.0
            .retain(|_, standing| standing.is_listed || standing.connections > 0);
    }

    /// Those that there are now.
    pub(super) fn listed(&self) -> impl Iterator<Item = Place> {
        let listed = self.0.iter().filter(|(_, standing)| standing.is_listed);
        listed.map(|(place, _)| *place)
    }

    /// The place of a new connection, which counts from now on; `None` when all were `tried`.
    pub(super) fn pick(&mut self, now: Duration, tried: &[Place]) -> Option<Place> {
        let left = self
            .0
            .iter_mut()
            .filter(|(place, standing)| standing.is_listed && !tried.contains(place));
        let (place, standing) = left.min_by_key(|(_, standing)| {
            let away_until = standing.away_until;
            let away = standing.is_away(now).then_some(away_until);
            (away, standing.connections)
        })?;
        standing.take(now);
        Some(*place)
    }

    /// A place that a connection to `held` is better moved to, and which counts it from now on: one
    /// with fewer connections, also after the move.
    pub(super) fn better(&mut self, now: Duration, held: Place) -> Option<Place> {
        let here = self.0.get(&held)?;
        let (is_listed, connections) = (here.is_listed, here.connections);
        let others = self.0.iter_mut().filter(|(place, standing)| {
            **place != held && standing.is_listed && !standing.is_away(now)
        });
        let (place, standing) = others.min_by_key(|(_, standing)| standing.connections)?;
        if is_listed && standing.connections + 1 >= connections {
            return None;
        }
        standing.take(now);
        Some(*place)
    }

    /// A connection less.
    pub(super) fn release(&mut self, place: Place) {
        if let Some(standing) = self.0.get_mut(&place) {
            standing.connections = standing.connections.saturating_sub(1);
            if standing.connections == 0 && !standing.is_listed {
                self.0.remove(&place);
            }
        }
    }

    /// Notes that it is away; returns whether that is news of one that has answered before.
    pub(super) fn lost(&mut self, now: Duration, place: Place) -> bool {
        let Some(standing) = self.0.get_mut(&place) else {
            return false;
        };
        standing.losses = standing.losses.saturating_add(1);
        standing.away_until = now + rest(standing.losses);
        standing.losses == 1 && standing.was_reached
    }

    /// Notes that it has answered; returns whether it was away before.
    pub(super) fn reached(&mut self, place: Place) -> bool {
        let Some(standing) = self.0.get_mut(&place) else {
            return false;
        };
        let is_back = standing.losses > 0;
        standing.was_reached = true;
        standing.losses = 0;
        standing.away_until = Duration::ZERO;
        is_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);
    const SECOND: Duration = Duration::from_secs(1);

    fn at(endpoint: usize) -> Place {
        let address = None;
        Place { endpoint, address }
    }

    fn picked(places: &mut Places, now: Duration) -> usize {
        places.pick(now, &[]).unwrap().endpoint
    }

    #[test]
    fn connections_are_spread() {
        let mut places = Places::new(3);
        let mut counts = [0; 3];
        for _ in 0..9 {
            counts[picked(&mut places, NOW)] += 1;
        }
        assert_eq!(counts, [3; 3]);
        assert_eq!(places.better(NOW, at(0)), None, "all have as many");
        assert_eq!(places.pick(NOW, &[at(0), at(1), at(2)]), None);
        assert_eq!(places.pick(NOW, &[at(0), at(2)]), Some(at(1)));
    }

    #[test]
    fn one_that_is_away_is_left_alone_and_tried_by_one_connection_now_and_then() {
        let mut places = Places::new(2);
        for _ in 0..4 {
            places.pick(NOW, &[]);
        }
        assert!(!places.reached(at(0)) && !places.reached(at(1)));
        assert!(places.lost(NOW, at(0)), "it is news");
        assert!(!places.lost(NOW, at(0)), "it is none any more");
        for _ in 0..2 {
            places.release(at(0));
            assert_eq!(picked(&mut places, NOW), 1);
        }
        // It was away twice: two seconds.
        assert_eq!(places.better(NOW + SECOND, at(1)), None);
        let later = NOW + 2 * SECOND;
        assert_eq!(places.better(later, at(1)), Some(at(0)));
        assert_eq!(places.better(later, at(1)), None, "one tries it");
        places.release(at(1));
        assert!(places.reached(at(0)), "it is back");
        // Three and one: one more moves, and no other.
        assert_eq!(places.better(later, at(1)), Some(at(0)));
        places.release(at(1));
        assert_eq!(places.better(later, at(1)), None);
    }

    #[test]
    fn when_all_are_away_the_one_whose_rest_ends_first_is_tried_first() {
        let mut places = Places::new(3);
        for endpoint in [2, 0, 1] {
            let later = NOW + 10 * SECOND * u32::from(endpoint == 1);
            assert!(!places.lost(later, at(endpoint)), "it never answered");
        }
        places.lost(NOW, at(2));
        assert_eq!(picked(&mut places, NOW), 0);
        assert_eq!(places.pick(NOW, &[at(0)]), Some(at(2)));
        assert_eq!(places.pick(NOW, &[at(0), at(2)]), Some(at(1)));
    }

    #[test]
    fn rests_are_bounded() {
        assert_eq!(rest(1), SECOND);
        assert_eq!(rest(3), 4 * SECOND);
        for losses in [6, 31, 32, 33, u32::MAX] {
            assert_eq!(rest(losses), REST_MAX);
        }
    }

    #[test]
    fn each_address_of_a_name_is_a_place() {
        let of = |last: u8| SocketAddr::from(([10, 0, 0, last], 5645));
        let place = |address| Place {
            endpoint: 0,
            address,
        };
        let mut places = Places::new(1);
        assert_eq!(places.pick(NOW, &[]), Some(place(None)));
        places.list(0, &[of(1), of(2)]);
        let listed: Vec<_> = places.listed().collect();
        assert_eq!(listed, [place(Some(of(1))), place(Some(of(2)))]);
        // The connection from before moves, though its place has no more than the others will.
        let moved = places.better(NOW, place(None));
        assert_eq!(moved, Some(place(Some(of(1)))));
        places.release(place(None));
        assert_eq!(places.0.len(), 2);
        // One is gone from the name: its connection stays in the count until it is closed.
        places.list(0, &[of(2), of(3)]);
        assert_eq!(places.0.len(), 3);
        places.release(place(Some(of(1))));
        assert_eq!(places.0.len(), 2);
        places.list(0, &[of(3)]);
        assert_eq!(places.listed().collect::<Vec<_>>(), [place(None)]);
    }
}
