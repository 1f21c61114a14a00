//! The daemons of a job: those that the caller names, and every address of a name. A connection
//! goes to one of them, and on to another when that one is away.
//!
//! A daemon is away when it cannot be reached, when its connection breaks, and when it answers that
//! it cannot work now: a node that is cut off from its store, or a proxy without a node behind it.
//! It is tried again now and then, and takes its share of the connections when it is back.

mod places;

use crate::bulk::client::{Client, Sender};
use crate::bulk::source::SourceError;
use crate::endpoint::Endpoint;
use places::{Place, Places};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Where there are others, a daemon that does not take a connection for so long is away.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Time for the addresses of a name.
const LOOK_UP_MAX: Duration = Duration::from_secs(5);
/// How often they are looked up: while all is well, and at most.
const LOOK_UP_RARELY: Duration = Duration::from_secs(30);
const LOOK_UP_SOON: Duration = Duration::from_secs(1);
/// Addresses of a name that are used.
const ADDRESSES_MAX: usize = 64;

/// The daemons that a job may call.
#[derive(Clone)]
pub struct Daemons(Arc<Shared>);

struct Shared {
    /// One for each endpoint.
    clients: Vec<Client>,
    state: Mutex<State>,
}

struct State {
    places: Places,
    looked_up: Option<Duration>,
}

/// A connection's place, for as long as it is there.
pub(super) struct Lease {
    daemons: Daemons,
    place: Place,
    /// How the daemon is called.
    pub(super) client: Client,
}

/// A daemon that was away, and why.
pub(super) struct Absence {
    place: Place,
    error: SourceError,
}

impl Daemons {
    /// One, or several.
    #[must_use]
    pub fn new(first: Client, more: Vec<Client>) -> Self {
        let clients: Vec<_> = std::iter::once(first).chain(more).collect();
        let state = State {
            places: Places::new(clients.len()),
            looked_up: None,
        };
        Self(Arc::new(Shared {
            clients,
            state: Mutex::new(state),
        }))
    }

    /// The client of the first.
    pub(super) fn first(&self) -> &Client {
        &self.0.clients[0]
    }

    /// Connects to every one once, so that a wrong endpoint shows before there is work to lose. The
    /// work begins if one is there.
    ///
    /// # Errors
    /// [`SourceError::Connection`], if all are away; [`SourceError::Untrusted`] of any.
    pub async fn reach(&self) -> Result<(), SourceError> {
        self.look_up(true).await;
        let mut attempts = JoinSet::new();
        let mut tried = Vec::new();
        while let Some(lease) = self.pick(&tried) {
            tried.push(lease.place);
            attempts.spawn(async move {
                let connected = lease.connect().await;
                (lease, connected)
            });
        }
        let mut reached = Vec::new();
        let mut absences = Vec::new();
        for (lease, connected) in attempts.join_all().await {
            match connected {
                Ok(_) => {
                    lease.reached();
                    reached.push(lease.place.endpoint);
                }
                Err(error @ SourceError::Untrusted { .. }) => return Err(error),
                Err(error) => absences.push(lease.lost(error)?),
            }
        }
        absences.sort_by_key(|absence| absence.place);
        if reached.is_empty() {
            return Err(all_away(absences));
        }
        for Absence { place, error } in absences {
            // One address of a name is enough: not every host has IPv6.
            if !reached.contains(&place.endpoint) {
                tracing::warn!(%error, "a daemon is away; the others are called");
            }
        }
        Ok(())
    }

    /// Takes over the addresses of names that have changed, if that was not done a moment ago; or
    /// not for a while, where that is not `urgent`.
    pub(super) async fn look_up(&self, urgent: bool) {
        let named = self.0.clients.iter().enumerate();
        let named = named.filter_map(|(at, client)| Some((at, name(&client.endpoint)?)));
        let named: Vec<_> = named.collect();
        if named.is_empty() || !self.is_due(urgent) {
            return;
        }
        for (endpoint, name) in named {
            // Where the names cannot be asked for, those from before stand.
            if let Ok(Ok(found)) = timeout(LOOK_UP_MAX, lookup_host(name)).await {
                let found: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
                self.state().places.list(endpoint, &found);
            }
        }
    }

    fn is_due(&self, urgent: bool) -> bool {
        let now = self.now();
        let pause = if urgent { LOOK_UP_SOON } else { LOOK_UP_RARELY };
        let mut state = self.state();
        let is_due = state.looked_up.is_none_or(|at| now >= at + pause);
        if is_due {
            state.looked_up = Some(now);
        }
        is_due
    }

    /// A place for a connection that is to be made; `None` when all were tried.
    pub(super) fn next(&self, tried: &[Absence]) -> Option<Lease> {
        let tried: Vec<_> = tried.iter().map(|absence| absence.place).collect();
        self.pick(&tried)
    }

    fn pick(&self, tried: &[Place]) -> Option<Lease> {
        let place = self.state().places.pick(self.now(), tried)?;
        Some(self.lease(place))
    }

    fn lease(&self, place: Place) -> Lease {
        Lease {
            daemons: self.clone(),
            place,
            client: self.0.clients[place.endpoint].at(place.address),
        }
    }

    fn has_several(&self) -> bool {
        self.state().places.listed().nth(1).is_some()
    }

    fn now(&self) -> Duration {
        self.first().clock.monotonic()
    }

    /// A thread that panicked has left it whole: nothing between its lock and unlock can.
    fn state(&self) -> MutexGuard<'_, State> {
        let locked = self.0.state.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name and the port of an endpoint that has a name.
fn name(endpoint: &Endpoint) -> Option<&str> {
    match endpoint {
        Endpoint::Unix(_) => None,
        Endpoint::Http(authority) | Endpoint::Https { authority, .. } => {
            let is_address = authority.parse::<SocketAddr>().is_ok();
            (!is_address).then_some(authority.as_str())
        }
    }
}

impl Lease {
    /// Makes the connection.
    ///
    /// # Errors
    /// [`SourceError`], which [`Self::lost`] takes.
    pub(super) async fn connect(&self) -> Result<Sender, SourceError> {
        let connecting = self.client.connect();
        if !self.daemons.has_several() {
            return connecting.await;
        }
        let late = || {
            let seconds = CONNECT_MAX.as_secs();
            let reason = format_args!("no connection within {seconds} seconds");
            self.client.broken(&reason)
        };
        let connected = timeout(CONNECT_MAX, connecting).await;
        connected.unwrap_or_else(|_| Err(late()))
    }

    /// A place that the connection is better moved to.
    pub(super) fn better(&self) -> Option<Self> {
        let now = self.daemons.now();
        let better = self.daemons.state().places.better(now, self.place)?;
        Some(self.daemons.lease(better))
    }

    /// Notes that the daemon has answered.
    pub(super) fn reached(&self) {
        let is_back = self.daemons.state().places.reached(self.place);
        if is_back && self.daemons.has_several() {
            tracing::info!(endpoint = self.client.name(), "a daemon is back");
        }
    }

    /// Notes that the daemon is away.
    ///
    /// # Errors
    /// `error`, if it is not that of a daemon that is away: all others would refuse as well.
    pub(super) fn lost(self, error: SourceError) -> Result<Absence, SourceError> {
        if !matches!(
            error,
            SourceError::Connection { .. } | SourceError::Untrusted { .. }
        ) {
            return Err(error);
        }
        let now = self.daemons.now();
        let is_news = self.daemons.state().places.lost(now, self.place);
        if is_news && self.daemons.has_several() {
            tracing::warn!(%error, "a daemon is away; the others are called");
        }
        let place = self.place;
        Ok(Absence { place, error })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.daemons.state().places.release(self.place);
    }
}

/// The error of daemons that are all away. Where there is one, it is that one's.
pub(super) fn all_away(mut absences: Vec<Absence>) -> SourceError {
    let is_untrusted = |absence: &Absence| matches!(absence.error, SourceError::Untrusted { .. });
    if (absences.len() == 1 || absences.iter().all(is_untrusted))
        && let Some(absence) = absences.pop()
    {
        return absence.error;
    }
    let told: Vec<_> = absences
        .iter()
        .map(|absence| absence.error.to_string())
        .collect();
    SourceError::Connection {
        endpoint: format!("all of {} daemons are away", absences.len()),
        reason: told.join("; "),
    }
}

#[cfg(test)]
mod tests;
