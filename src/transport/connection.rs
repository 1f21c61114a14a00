//! Serves one listener: accepts, runs a task for each connection, makes room for the next one,
//! drains.

use crate::metrics::Metrics;
use crate::transport::cores::least_busy;
use crate::transport::flushed;
use crate::transport::places::{Place, Places};
use ::metrics::{Counter, Gauge};
use failures::Failures;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1::Builder;
use hyper::service::HttpService;
use hyper_util::rt::TokioTimer;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use task::{Connection, down};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

mod failures;
mod task;

pub(super) use task::linger;

/// The most bytes of a request's head: several times the largest that SDKs send, whose session
/// tokens have a few KiB. The number of header fields stays at hyper's default of 100, because
/// hyper allocates for each request with any other bound.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Bytes that hyper buffers on either side of a connection: more than one chunk of a batch, so that
/// the next chunk is made while the last one is sent.
pub(super) const BUFFER_BYTES_MAX: usize = 1024 * 1024;
/// How long no connection is accepted after the process or the machine ran out of a resource
/// (EMFILE, ENFILE, ENOBUFS, ENOMEM).
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// How long a full listener waits before it closes one more connection: the last one may have
/// become busy, and then ends only after its answer.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// The bounds of one listener.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) connections_max: usize,
    pub(super) head_timeout: Duration,
    pub(super) write_timeout: Duration,
    pub(super) drain: Duration,
}

/// A source of connections.
pub(super) trait Listener: Send + 'static {
    /// A connection that belongs to no runtime.
    type Accepted: Send + 'static;
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Accepted>>;

    /// Registers the connection with the current runtime.
    fn open(accepted: Self::Accepted) -> io::Result<Self::Stream>;
}

impl Listener for TcpListener {
    type Accepted = std::net::TcpStream;
    type Stream = TcpStream;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Accepted>> {
        let (stream, _) = ready!(Self::poll_accept(self, cx))?;
        // A response in two writes would wait for a delayed ACK. An error means that the peer has
        // gone, which the first read will report.
        drop(stream.set_nodelay(true));
        Poll::Ready(stream.into_std())
    }

    fn open(accepted: Self::Accepted) -> io::Result<TcpStream> {
        TcpStream::from_std(accepted)
    }
}

impl Listener for UnixListener {
    type Accepted = std::os::unix::net::UnixStream;
    type Stream = UnixStream;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Accepted>> {
        let (stream, _) = ready!(Self::poll_accept(self, cx))?;
        Poll::Ready(stream.into_std())
    }

    fn open(accepted: Self::Accepted) -> io::Result<UnixStream> {
        UnixStream::from_std(accepted)
    }
}

/// The metrics of a listener.
pub(super) struct Counts {
    pub(super) open: Gauge,
    /// Connections that were closed to make room.
    pub(super) let_go: Counter,
    /// Connections that could not be accepted, through no fault of the peer.
    pub(super) failures: Counter,
}

impl Counts {
    /// The metrics of a listener for `connections_max` connections.
    pub(super) fn of(metrics: &Metrics, transport: &'static str, connections_max: usize) -> Self {
        // Several Unix sockets share one series.
        metrics
            .connections_max(transport)
            .increment(connections_max as f64);
        Self {
            open: metrics.connections(transport),
            let_go: metrics.connections_let_go(transport),
            failures: metrics.accept_failures(transport),
        }
    }
}

/// Serves `listener` until `shutdown` turns true or its sender is gone, then drains. Connections
/// are spread over `cores`. `connect` turns an accepted stream into the stream to serve and its
/// service. It may take some time, during which the connection counts.
pub(super) async fn serve<L, C, F, T, S, B>(
    listener: L,
    transport: &'static str,
    bounds: Bounds,
    counts: Counts,
    cores: &[Handle],
    connect: C,
    shutdown: watch::Receiver<bool>,
) where
    L: Listener,
    C: Fn(L::Stream, Arc<Place>) -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<(T, S)>> + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = B> + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>, Data: Send> + Send + 'static,
{
    let builder = builder(&bounds);
    let mut failures = Failures::new(transport, counts.failures.clone());
    let connect = Arc::new(connect);
    let (mut tasks, mut places) = (JoinSet::new(), Places::default());
    let begin = |tasks: &mut JoinSet<()>, places: &mut Places, accepted: L::Accepted| {
        let (place, notice) = places.take();
        let open = Open::new(&counts.open);
        let connection = Connection {
            transport,
            builder: builder.clone(),
            write_timeout: bounds.write_timeout,
            place: Arc::clone(&place),
            notice,
            shutdown: shutdown.clone(),
        };
        let connect = Arc::clone(&connect);
        let connected = async move { connect(L::open(accepted)?, place).await };
        let served = async move {
            connection.serve(connected).await;
            drop(open);
        };
        tasks.spawn_on(flushed::scope(served), least_busy(cores));
    };
    // The connection for which there is no room yet; others wait in the kernel's backlog.
    let mut waiting = None;
    let mut told = shutdown.clone();
    let mut down = pin!(down(&mut told));
    loop {
        let is_full = tasks.len() >= bounds.connections_max;
        match waiting.take() {
            Some(accepted) if !is_full => begin(&mut tasks, &mut places, accepted),
            Some(accepted) => {
                waiting = Some(accepted);
                if places.let_one_go() {
                    counts.let_go.increment(1);
                }
            }
            None => {}
        }
        tokio::select! {
            biased;
            () = &mut down => break,
            Some(ended) = tasks.join_next() => report(ended),
            accepted = poll_fn(|cx| listener.poll_accept(cx)), if waiting.is_none() => match accepted {
                Ok(accepted) => waiting = Some(accepted),
                Err(error) if is_the_peers(&error) => failures.log(&error),
                Err(error) => {
                    failures.count(&error);
                    // A resource has run out. To have fewer connections helps, and so does waiting,
                    // in which the backlog waits too.
                    if places.let_one_go() {
                        counts.let_go.increment(1);
                    }
                    tokio::select! {
                        () = &mut down => break,
                        () = sleep(EXHAUSTED_PAUSE) => {}
                    }
                }
            },
            // The connection that was to be closed became busy at that moment, or all are busy.
            () = sleep(FULL_PAUSE), if waiting.is_some() => {}
        }
    }
    // Connections whose handshake the kernel has finished are served too: their peers regard
    // themselves as connected.
    while tasks.len() < bounds.connections_max {
        let next = match waiting.take() {
            Some(accepted) => Some(accepted),
            None => at_once(|cx| listener.poll_accept(cx))
                .await
                .and_then(Result::ok),
        };
        let Some(accepted) = next else { break };
        begin(&mut tasks, &mut places, accepted);
    }
    drop((listener, waiting));
    drain(transport, tasks, bounds.drain).await;
}

/// The result of one poll, if it is ready.
async fn at_once<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    poll_fn(|cx| match poll(cx) {
        Poll::Ready(ready) => Poll::Ready(Some(ready)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn builder(bounds: &Bounds) -> Builder {
    let mut builder = Builder::new();
    builder
        .timer(TokioTimer::new())
        // Written as AWS writes them: libmongocrypt, through which MongoDB's drivers call KMS,
        // recognises `Content-Length` only in this case.
        .title_case_headers(true)
        .header_read_timeout(bounds.head_timeout)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        // A client may close its sending half after its request, and is answered all the same (RFC
        // 9112, section 9.6).
        .half_close(true);
    builder
}

/// Whether the peer went away before its connection was accepted, which does not affect the next
/// one.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

async fn drain(transport: &'static str, mut tasks: JoinSet<()>, deadline: Duration) {
    let connections = tasks.len();
    let finished = timeout(deadline, async {
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
    });
    if finished.await.is_ok() {
        tracing::info!(transport, connections, "drained");
    } else {
        tracing::warn!(
            transport,
            connections = tasks.len(),
            seconds = deadline.as_secs(),
            "drain deadline passed: connections cut"
        );
        tasks.shutdown().await;
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked: please report this as a fault");
    }
}

/// A connection, counted in the gauge of open connections.
struct Open(Gauge);

impl Open {
    fn new(open: &Gauge) -> Self {
        open.increment(1);
        Self(open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

#[cfg(test)]
mod tests;
