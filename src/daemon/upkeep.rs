//! The daemon's periodic work: it keeps the pool, the rate limits and the metrics in order, removes
//! keys whose deletion is due, rotates keys whose date has come, seals the head of the audit log,
//! opens a failed store again, connects custom key stores, reads the configuration again at SIGHUP
//! and the files of TLS when they change, fetches the keys of other issuers, closes idle
//! connections to external key store proxies, and notifies the service manager as long as requests
//! are served.

use crate::audit::SEAL_INTERVAL;
use crate::daemon::reload::Reload;
use crate::daemon::{Core, SERVING};
use crate::metrics::seed_hash_maps;
use crate::service_manager;
use crate::transport::tls::Tls;
use metrics::Gauge;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::MissedTickBehavior;

/// The interval of work on the pool, the rate limits and the store.
const TICK: Duration = Duration::from_secs(1);
/// After so many ticks, histogram samples are moved into their buckets.
const METRICS_TICKS: u32 = 5;
/// The interval of checks for keys whose deletion, expiry or rotation is due.
const EXPIRY: Duration = Duration::from_secs(60);

/// The running timers.
pub(super) struct Upkeep {
    /// Dropping it ends the thread.
    stop: Sender<()>,
    thread: JoinHandle<()>,
    /// Dropping it ends the tasks between two checks, so that a change of the store is never
    /// interrupted.
    stop_tasks: watch::Sender<()>,
    tasks: JoinSet<()>,
}

impl Upkeep {
    /// Starts a thread for pool and metrics, which may be busy for milliseconds, and tasks for the
    /// rest. Requests are served on `cores`.
    pub(super) fn start(core: &Core, reload: Reload, cores: &[Handle]) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let (pool, metrics) = (Arc::clone(&core.pool), Arc::clone(&core.metrics));
        let (api, clock) = (Arc::clone(&core.api), core.clock.clone());
        let work = move || {
            seed_hash_maps();
            let mut ticks = 0;
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                pool.tick();
                api.rates.tick(clock.monotonic());
                ticks = (ticks + 1) % METRICS_TICKS;
                if ticks == 0 {
                    metrics.upkeep();
                }
            }
        };
        let thread = thread::Builder::new()
            .name("upkeep".to_owned())
            .spawn(work)?;
        let (api, clock) = (Arc::clone(&core.api), core.clock.clone());
        let (audit, keystore) = (Arc::clone(&core.audit), Arc::clone(&core.keystore));
        let (stop_tasks, stopped) = watch::channel(());
        let mut tasks = JoinSet::new();
        tasks.spawn(keep_configured(Arc::new(reload), stopped.clone())?);
        if let Some(interval) = service_manager::watchdog() {
            let cores = cores.to_vec();
            tasks.spawn(every(interval, stopped.clone(), async move || {
                tell_alive(&cores).await;
            }));
        }
        core.api.web_identities.keep(&mut tasks, &stopped);
        core.api.xks_proxies.keep(&mut tasks, &stopped);
        let store = Arc::clone(&core.keystore);
        tasks.spawn(every(TICK, stopped.clone(), async move || {
            // `/ready` shows the reason of a halt, which was logged when it began.
            let _halted = store.heal().await;
        }));
        let (held, mut told) = (core.metrics.deletions_held.clone(), 0);
        tasks.spawn(every(EXPIRY, stopped.clone(), async move || {
            match api.remove_due_keys().await {
                Ok(keys) => told = tell_held(&held, told, keys),
                Err(error) => {
                    let error = error.source().map(tracing::field::display);
                    tracing::error!(error, "keys whose deletion is due were not removed");
                }
            }
            if let Err(error) = api.drop_expired_material(clock.now()).await {
                let error = error.source().map(tracing::field::display);
                tracing::error!(
                    error,
                    "imported material whose date of expiry has come was not removed"
                );
            }
            if let Err(error) = api.rotate_due_keys(clock.now()).await {
                let error = error.source().map(tracing::field::display);
                tracing::error!(error, "keys whose rotation is due were not rotated");
            }
        }));
        let (api, mut greeted) = (Arc::clone(&core.api), false);
        tasks.spawn(every(EXPIRY, stopped.clone(), async move || {
            if !greeted {
                api.greet_key_stores().await;
                greeted = true;
            }
            api.connect_key_stores().await;
        }));
        tasks.spawn(every(SEAL_INTERVAL, stopped, async move || {
            if let Err(error) = audit.seal_head(&keystore).await {
                tracing::error!(%error, "the head of the audit log was not sealed");
            }
        }));
        Ok(Self {
            stop,
            thread,
            stop_tasks,
            tasks,
        })
    }

    /// Returns when nothing of it runs any more.
    pub(super) async fn stop(self) {
        drop((self.stop, self.stop_tasks));
        let mut tasks = self.tasks;
        // An error is a panic, which was printed already.
        while tasks.join_next().await.is_some() {}
        let thread = self.thread;
        let _joined = spawn_blocking(move || thread.join()).await;
    }
}

/// Works at once, and then at every interval until it is stopped. A change that has begun is
/// finished, and an interval that it missed is not made up for.
async fn every(interval: Duration, mut stopped: watch::Receiver<()>, mut work: impl AsyncFnMut()) {
    let mut interval = tokio::time::interval(interval);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => work().await,
            _ = stopped.changed() => return,
        }
    }
}

/// Notifies the service manager, once each core has found the time for a task. A core that hangs
/// keeps it waiting, and the service manager ends the process.
async fn tell_alive(cores: &[Handle]) {
    let tasks: Vec<_> = cores.iter().map(|core| core.spawn(async {})).collect();
    for task in tasks {
        // Only a runtime that has ended drops it.
        if task.await.is_err() {
            return;
        }
    }
    let _told = spawn_blocking(service_manager::alive).await;
}

/// Sets the metric of deletions that are held back, and logs them when there are more than before.
fn tell_held(held: &Gauge, told: usize, keys: usize) -> usize {
    held.set(keys as f64);
    if keys > told {
        tracing::warn!(
            keys,
            "the date of deletion of keys has come by the time of day, but not by the time that this daemon has been running: the keys are removed permanently when it has, within an hour if the clock is right; if the clock is wrong, set it, or cancel the deletions"
        );
    }
    keys
}

/// Reads the configuration again at SIGHUP, and the files of TLS when they have changed.
fn keep_configured(
    reload: Arc<Reload>,
    mut stopped: watch::Receiver<()>,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        loop {
            let asked = tokio::select! {
                () = time_to_look(reload.tls()) => false,
                _ = hangup.recv() => true,
                _ = stopped.changed() => return,
            };
            let reload = Arc::clone(&reload);
            let read = move || match reload.tls() {
                _ if asked => {
                    service_manager::reloading();
                    reload.run();
                    service_manager::ready(SERVING);
                }
                Some(tls) => tls.reload_if_changed(),
                None => {}
            };
            // An error is a panic, which was printed already.
            let _read = spawn_blocking(read).await;
        }
    })
}

/// Ends when it is time to look whether the files of TLS have changed; without TLS, never.
async fn time_to_look(tls: Option<&Arc<Tls>>) {
    match tls {
        Some(tls) => tokio::time::sleep(tls.reload_every()).await,
        None => std::future::pending().await,
    }
}
