//! The addresses of a host's name, looked up once for all calls that wait for them.
//!
//! The system's look-up blocks a thread, and takes as long as it takes. So there is one at a time
//! for each host: it goes on when the call that began it has given up, and later calls wait for it.

use crate::clock::Clock;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// How long addresses are used before they are looked up again. Connections are kept anyway.
const FRESH_FOR: Duration = Duration::from_secs(30);
/// HTTPS.
const PORT: u16 = 443;

/// The name of a host, and its addresses as they were last.
pub(super) struct LookUp {
    name: String,
    found: Arc<Mutex<Option<Found>>>,
    clock: Clock,
}

struct Found {
    addresses: Vec<SocketAddr>,
    at: Duration,
}

impl LookUp {
    pub(super) fn new(name: &str, clock: Clock) -> Self {
        Self {
            name: name.to_owned(),
            found: Arc::default(),
            clock,
        }
    }

    /// The addresses, at [`PORT`].
    pub(super) async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let found = Arc::clone(&self.found).lock_owned().await;
        let now = self.clock.monotonic();
        if let Some(Found { addresses, at }) = &*found
            && now.saturating_sub(*at) < FRESH_FOR
        {
            return Ok(addresses.clone());
        }
        let looking = tokio::spawn(look_up(self.name.clone(), found, now));
        looking.await.map_err(io::Error::other)?
    }
}

/// Holds the lock until it is done, whether or not its caller still waits.
async fn look_up(
    name: String,
    mut found: OwnedMutexGuard<Option<Found>>,
    at: Duration,
) -> io::Result<Vec<SocketAddr>> {
    let addresses = tokio::net::lookup_host((name, PORT)).await?;
    let addresses: Vec<_> = addresses.collect();
    *found = Some(Found {
        addresses: addresses.clone(),
        at,
    });
    Ok(addresses)
}

#[cfg(test)]
impl LookUp {
    /// A look-up that hangs until this is dropped.
    pub(super) async fn hang(&self) -> impl Drop {
        Arc::clone(&self.found).lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[tokio::test]
    async fn addresses_are_kept_for_a_while() {
        let clock = Clock::manual(Timestamp(0));
        let look_up = LookUp::new("localhost", clock.clone());
        let found = look_up.addresses().await.unwrap();
        assert!(
            found
                .iter()
                .all(|one| one.ip().is_loopback() && one.port() == 443)
        );
        let kept: SocketAddr = "192.0.2.1:443".parse().unwrap();
        let put = |at| Found {
            addresses: vec![kept],
            at,
        };
        *look_up.found.lock().await = Some(put(Duration::ZERO));
        clock.advance(FRESH_FOR - Duration::from_millis(1));
        assert_eq!(look_up.addresses().await.unwrap(), [kept]);
        clock.advance(Duration::from_millis(1));
        assert_eq!(look_up.addresses().await.unwrap(), found);
    }

    #[tokio::test]
    async fn a_look_up_that_hangs_is_one_for_all_calls() {
        let look_up = LookUp::new("localhost", Clock::manual(Timestamp(0)));
        let hanging = look_up.found.lock().await;
        let wait = Duration::from_millis(20);
        for _ in 0..3 {
            assert!(
                tokio::time::timeout(wait, look_up.addresses())
                    .await
                    .is_err()
            );
        }
        assert_eq!(Arc::strong_count(&look_up.found), 1, "no call left a task");
        drop(hanging);
        assert!(look_up.addresses().await.is_ok());
    }

    #[tokio::test]
    async fn a_name_without_addresses_is_an_error() {
        let look_up = LookUp::new("no-such-name.invalid", Clock::manual(Timestamp(0)));
        assert!(look_up.addresses().await.is_err());
        assert!(look_up.found.lock().await.is_none());
    }
}
