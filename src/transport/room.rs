//! The memory for the bodies of requests that one listener may hold at the same time.
//!
//! A body is held before its signature can be compared, so a client that knows only the id of an
//! access key could make the daemon hold one on each connection. The bytes that have arrived are
//! counted, not those that were announced. When the room is used up, the body that has been
//! arriving for longest gives way. So a body that stalls does not keep out others, and a complete
//! body is kept until it is answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The room of one listener.
pub(super) struct Room {
    bytes_max: usize,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    /// The bytes of all bodies.
    bytes: usize,
    next: u64,
    /// Bodies that are still arriving, the oldest first.
    incoming: BTreeMap<u64, Incoming>,
}

struct Incoming {
    bytes: usize,
    given_up: Arc<Notify>,
}

/// The part of one body, given back when it is dropped.
pub(super) struct Part {
    held: Arc<Mutex<Held>>,
    bytes_max: usize,
    number: u64,
    /// The bytes, once the body is complete.
    whole: Option<usize>,
    given_up: Arc<Notify>,
}

/// There is no room for a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

impl Room {
    /// Makes room for so many bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            held: Arc::default(),
        }
    }

    /// The part of a body that begins to arrive.
    pub(super) fn begin(&self) -> Part {
        let given_up = Arc::new(Notify::new());
        let mut held = lock(&self.held);
        let number = held.next;
        held.next += 1;
        let incoming = Incoming {
            bytes: 0,
            given_up: Arc::clone(&given_up),
        };
        held.incoming.insert(number, incoming);
        drop(held);
        Part {
            held: Arc::clone(&self.held),
            bytes_max: self.bytes_max,
            number,
            whole: None,
            given_up,
        }
    }
}

impl Part {
    /// Counts bytes that have arrived.
    ///
    /// # Errors
    /// [`NoRoom`]: this body has given way to another, or none could give way to it.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let mut held = lock(&self.held);
        if !held.incoming.contains_key(&self.number) {
            return Err(NoRoom);
        }
        while held.bytes + bytes > self.bytes_max {
            let others = held.incoming.iter();
            let oldest = others
                .filter(|(number, other)| **number != self.number && other.bytes > 0)
                .map(|(number, _)| *number)
                .next()
                .ok_or(NoRoom)?;
            if let Some(other) = held.incoming.remove(&oldest) {
                held.bytes -= other.bytes;
                other.given_up.notify_one();
            }
        }
        held.bytes += bytes;
        if let Some(own) = held.incoming.get_mut(&self.number) {
            own.bytes += bytes;
        }
        Ok(())
    }

    /// Returns when this body has given way to another.
    pub(super) async fn given_up(&self) {
        self.given_up.notified().await;
    }

    /// Records that the body is complete: from now on it does not give way.
    ///
    /// # Errors
    /// [`NoRoom`]: it has given way already.
    pub(super) fn complete(&mut self) -> Result<(), NoRoom> {
        let own = lock(&self.held).incoming.remove(&self.number);
        self.whole = Some(own.ok_or(NoRoom)?.bytes);
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        let incoming = held.incoming.remove(&self.number);
        let bytes = self.whole.or(incoming.map(|own| own.bytes));
        held.bytes -= bytes.unwrap_or(0);
    }
}

/// Nothing that panics under the lock leaves it half changed.
fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(room: &Room) -> usize {
        lock(&room.held).bytes
    }

    #[tokio::test]
    async fn hold_5_the_body_that_comes_in_for_longest_gives_way() {
        let room = Room::new(100);
        let (mut first, mut second) = (room.begin(), room.begin());
        first.grow(40).unwrap();
        second.grow(40).unwrap();
        let mut third = room.begin();
        third.grow(30).unwrap();
        first.given_up().await;
        assert_eq!(first.grow(1), Err(NoRoom));
        assert_eq!(first.complete(), Err(NoRoom));
        assert_eq!(held(&room), 70);
        // A complete body stays.
        second.complete().unwrap();
        third.complete().unwrap();
        let mut fourth = room.begin();
        assert_eq!(fourth.grow(31), Err(NoRoom));
        fourth.grow(30).unwrap();
        assert_eq!(fourth.grow(1), Err(NoRoom), "not to itself");
        drop((first, second));
        assert_eq!(held(&room), 60);
        fourth.grow(40).unwrap();
        drop((third, fourth));
        assert_eq!(held(&room), 0);
    }

    #[test]
    fn hold_5_what_was_only_announced_takes_nothing() {
        let room = Room::new(100);
        let idle: Vec<_> = (0..50).map(|_| room.begin()).collect();
        let mut body = room.begin();
        body.grow(100).unwrap();
        body.complete().unwrap();
        assert_eq!(held(&room), 100);
        drop((idle, body));
        assert_eq!(held(&room), 0);
    }
}
