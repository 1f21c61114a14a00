//! A worker's connection to one of the daemons: it is made when it is needed, kept, and made to
//! another daemon when its own is away. Called from a thread that waits for the answer.

use crate::bulk::client::{Client, Sender, Target};
use crate::bulk::daemons::{Absence, Daemons, Lease, all_away};
use crate::bulk::source::SourceError;
use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long a throttled call is made again, and the pauses between.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// One connection of one worker.
pub struct Connection {
    runtime: Runtime,
    calls: Calls,
}

/// What is done on its runtime.
struct Calls {
    daemons: Daemons,
    held: Option<Held>,
    /// The daemon that was called last, or the first.
    client: Client,
}

/// A connection that is made.
struct Held {
    sender: Sender,
    lease: Lease,
    /// Whether it has had an answer before.
    is_kept: bool,
}

impl Connection {
    /// A connection that is made when it is needed.
    ///
    /// # Errors
    /// [`SourceError::Connection`], when this process cannot start a runtime.
    pub fn new(daemons: &Daemons) -> Result<Self, SourceError> {
        let client = daemons.first().clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| client.broken(&error))?;
        Ok(Self {
            runtime,
            calls: Calls {
                daemons: daemons.clone(),
                held: None,
                client,
            },
        })
    }

    /// The daemon that was called last.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.calls.client
    }

    /// Sends one request, and returns its answer, whose body is still to be read. Daemons that are
    /// away are passed over, each of them once.
    ///
    /// # Errors
    /// [`SourceError`], the daemon's refusal among others.
    pub fn call(
        &mut self,
        target: &Target<'_>,
        body: Bytes,
    ) -> Result<Response<Incoming>, SourceError> {
        self.runtime.block_on(self.calls.send(target, &body))
    }

    /// As [`Self::call`]; a call that is throttled is made again, for a while.
    ///
    /// # Errors
    /// [`SourceError`], the daemon's refusal among others.
    pub fn call_patiently(
        &mut self,
        target: &Target<'_>,
        body: Bytes,
    ) -> Result<Response<Incoming>, SourceError> {
        self.runtime
            .block_on(self.calls.send_patiently(target, &body))
    }

    /// The next bytes of an answer; `None` at its end, which must be seen before the next call.
    ///
    /// # Errors
    /// [`SourceError`], when the connection breaks or the daemon is silent. Whether the daemon is
    /// away, the next call finds out: it cuts an answer also where it refuses the rest.
    pub fn next(&mut self, body: &mut Incoming) -> Result<Option<Bytes>, SourceError> {
        let received = async { body.frame().await.transpose() };
        let frame = self.runtime.block_on(self.calls.client.in_time(received));
        if frame.is_err() {
            self.calls.held = None;
        }
        Ok(frame?.map(|frame| frame.into_data().unwrap_or_default()))
    }
}

impl Calls {
    async fn send(
        &mut self,
        target: &Target<'_>,
        body: &Bytes,
    ) -> Result<Response<Incoming>, SourceError> {
        self.daemons.look_up(self.held.is_none()).await;
        self.move_over().await;
        let mut absences = Vec::new();
        loop {
            let mut held = self.connected(&mut absences).await?;
            let client = &held.lease.client;
            let sent = client.send(&mut held.sender, target, body.clone()).await;
            let answered = match sent {
                // A daemon closes connections that are idle, and need not be away.
                Err(SourceError::Connection { .. }) if held.is_kept => continue,
                Err(error) => Err(error),
                Ok(response) => client.taken(response).await,
            };
            match answered {
                Err(error @ SourceError::Connection { .. }) => {
                    absences.push(held.lease.lost(error)?);
                }
                answered => {
                    if !matches!(answered, Err(SourceError::Answer { .. })) {
                        held.lease.reached();
                    }
                    held.is_kept = true;
                    self.held = Some(held);
                    return answered;
                }
            }
        }
    }

    /// The connection that there is, or one to the next daemon that is there.
    async fn connected(&mut self, absences: &mut Vec<Absence>) -> Result<Held, SourceError> {
        let held = self.held.take();
        if let Some(held) = held.filter(|held| !held.sender.is_closed()) {
            return Ok(held);
        }
        loop {
            let Some(lease) = self.daemons.next(absences) else {
                return Err(all_away(std::mem::take(absences)));
            };
            // Each may take seconds.
            if !absences.is_empty() && self.client.stop.load(Ordering::Relaxed) {
                return Err(SourceError::Stopped);
            }
            self.client = lease.client.clone();
            match lease.connect().await {
                Ok(sender) => {
                    return Ok(Held {
                        sender,
                        lease,
                        is_kept: false,
                    });
                }
                Err(error) => absences.push(lease.lost(error)?),
            }
        }
    }

    /// Moves to a daemon with fewer connections, such as one that is back.
    async fn move_over(&mut self) {
        let Some(lease) = self.held.as_ref().and_then(|held| held.lease.better()) else {
            return;
        };
        match lease.connect().await {
            Ok(sender) => {
                self.client = lease.client.clone();
                self.held = Some(Held {
                    sender,
                    lease,
                    is_kept: false,
                });
            }
            // It is still away, and the connection from before is as good as it was.
            Err(error) => drop(lease.lost(error)),
        }
    }

    async fn send_patiently(
        &mut self,
        target: &Target<'_>,
        body: &Bytes,
    ) -> Result<Response<Incoming>, SourceError> {
        let (mut pause, mut waited) = (PAUSE_MIN, Duration::ZERO);
        loop {
            match self.send(target, body).await {
                Err(SourceError::Refused { code, .. })
                    if code == "ThrottlingException" && waited < PATIENCE => {}
                sent => return sent,
            }
            tokio::time::sleep(pause).await;
            waited += pause;
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }
}
