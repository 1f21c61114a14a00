//! One listener's life: permits, accepts, a task for each connection, drain.

use crate::clock::Clock;
use crate::transport::cores::least_busy;
use crate::transport::write_timeout::WriteTimeout;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1::Builder;
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::Gauge;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

/// Bytes of a request's head: several times the largest that SDKs send, whose session tokens have a few KiB. The number of header fields is left at
/// hyper's default of 100: any other would cost an allocation for each request.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Bytes that hyper buffers on either side of a connection: more than one chunk of a batch, so that the next is made while the last is on its way.
const BUFFER_BYTES_MAX: usize = 1024 * 1024;
/// How long no connection is accepted when the process or the machine has run out of something (EMFILE, ENFILE, ENOBUFS, ENOMEM).
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// How often failures to accept are logged at most.
const FAILURES_LOGGED_EVERY: Duration = Duration::from_secs(10);
/// How long, and for how many bytes, a peer whose request was not read to its end may go on sending: closing at once would reset the connection, and
/// take the answer away from a peer that has not read it yet.
const LINGER_MAX: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bounds of one listener.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) connections_max: usize,
    pub(super) head_timeout: Duration,
    pub(super) write_timeout: Duration,
    pub(super) drain: Duration,
}

/// Where connections come from.
pub(super) trait Listener: Send + 'static {
    /// A connection that belongs to no runtime.
    type Accepted: Send + 'static;
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Accepted>>;

    /// The connection in the runtime that this is called in.
    fn open(accepted: Self::Accepted) -> io::Result<Self::Stream>;
}

impl Listener for TcpListener {
    type Accepted = std::net::TcpStream;
    type Stream = TcpStream;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Accepted>> {
        let (stream, _) = ready!(Self::poll_accept(self, cx))?;
        // A response in two writes would wait for a delayed ACK. Failing means that the peer has gone already, which the first read will say.
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

/// Serves `listener` until `shutdown` turns true, or its sender is gone; then drains. Connections are spread over `cores`. `connect` makes the stream to be
/// served of an accepted one, and its service; it may take its time, and the connection counts meanwhile.
pub(super) async fn serve<L, C, F, T, S, B>(
    listener: L,
    transport: &'static str,
    bounds: Bounds,
    connections: Gauge,
    cores: &[Handle],
    connect: C,
    mut shutdown: watch::Receiver<bool>,
) where
    L: Listener,
    C: Fn(L::Stream) -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<(T, S)>> + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = B> + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>, Data: Send> + Send + 'static,
{
    let builder = builder(&bounds);
    let permits = Arc::new(Semaphore::new(
        bounds.connections_max.min(Semaphore::MAX_PERMITS),
    ));
    let mut failures = Failures::new(transport);
    let connect = Arc::new(connect);
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = down(&mut shutdown) => break,
            Some(ended) = tasks.join_next() => {
                report(ended);
                continue;
            }
            accepted = accept(&listener, &permits) => accepted,
        };
        let (accepted, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                failures.log(&error);
                if !is_the_peers(&error) {
                    // Not accepting is the only thing that helps; the backlog waits.
                    tokio::select! {
                        () = down(&mut shutdown) => break,
                        () = tokio::time::sleep(EXHAUSTED_PAUSE) => {}
                    }
                }
                continue;
            }
        };
        let open = Open::new(&connections, permit);
        let (connect, builder) = (Arc::clone(&connect), builder.clone());
        let mut shutdown = shutdown.clone();
        let connection = async move {
            let connected = async move { connect(L::open(accepted)?).await };
            let connected = tokio::select! {
                biased;
                connected = connected => connected,
                // Nobody has asked for anything yet.
                () = down(&mut shutdown) => return,
            };
            match connected {
                Ok((stream, service)) => {
                    let stream = WriteTimeout::new(stream, bounds.write_timeout);
                    run(builder, stream, service, shutdown).await;
                }
                Err(error) => tracing::debug!(transport, %error, "connection refused"),
            }
            drop(open);
        };
        tasks.spawn_on(connection, least_busy(cores));
    }
    drop(listener);
    drain(transport, tasks, bounds.drain).await;
}

fn builder(bounds: &Bounds) -> Builder {
    let mut builder = Builder::new();
    builder
        .timer(TokioTimer::new())
        // As AWS writes them: libmongocrypt, which MongoDB's drivers call KMS with, knows `Content-Length` in no other case.
        .title_case_headers(true)
        .header_read_timeout(bounds.head_timeout)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX);
    builder
}

/// Ends when the listener is to be shut down.
async fn down(shutdown: &mut watch::Receiver<bool>) {
    drop(shutdown.wait_for(|down| *down).await);
}

/// Takes a permit, then a connection: what waits for a permit waits in the kernel's backlog, not here.
async fn accept<L: Listener>(
    listener: &L,
    permits: &Arc<Semaphore>,
) -> io::Result<(L::Accepted, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await;
    let permit = permit.map_err(io::Error::other)?;
    let accepted = poll_fn(|cx| listener.poll_accept(cx)).await?;
    Ok((accepted, permit))
}

/// Whether the peer went away before it was accepted, which says nothing about the next one.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Serves one connection to its end; a shutdown closes it when it is idle, or after the answer to the request in flight.
async fn run<T, S, B>(
    builder: Builder,
    stream: WriteTimeout<T>,
    service: S,
    mut shutdown: watch::Receiver<bool>,
) where
    T: AsyncRead + AsyncWrite + Unpin,
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    let served = {
        let mut down = pin!(down(&mut shutdown));
        tokio::select! {
            biased;
            served = &mut connection => Some(served),
            () = &mut down => None,
        }
    };
    let drained = served.is_none();
    let served = match served {
        Some(served) => served,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
    let stream = connection.into_parts().io.into_inner();
    if !drained && let Some(stream) = stream.still_open() {
        linger(stream).await;
    }
}

/// Says that nothing more will come, and throws away what still comes, within bounds.
pub(super) async fn linger(stream: impl AsyncRead + AsyncWrite + Unpin) {
    // Its outcome is of no interest: the connection is closed either way.
    drop(timeout(LINGER_MAX, discard(stream)).await);
}

async fn discard(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.shutdown().await?;
    let mut left = LINGER_BYTES_MAX;
    let mut buffer = vec![0; 16 * 1024];
    while left > 0 {
        match stream.read(&mut buffer).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
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

/// A connection's place among those that may be open, and in the gauge.
struct Open {
    connections: Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Open {
    fn new(connections: &Gauge, permit: OwnedSemaphorePermit) -> Self {
        connections.increment(1);
        Self {
            connections: connections.clone(),
            _permit: permit,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.decrement(1);
    }
}

/// Failures to accept, logged with their number once in a while.
struct Failures {
    transport: &'static str,
    clock: Clock,
    logged: Option<Duration>,
    since: u64,
}

impl Failures {
    fn new(transport: &'static str) -> Self {
        Self {
            transport,
            clock: Clock::system(),
            logged: None,
            since: 0,
        }
    }

    fn log(&mut self, error: &io::Error) {
        self.since += 1;
        let now = self.clock.monotonic();
        let due = |logged: Duration| now.saturating_sub(logged) >= FAILURES_LOGGED_EVERY;
        if self.logged.is_none_or(due) {
            tracing::warn!(
                transport = self.transport,
                %error,
                failures = self.since,
                "connections could not be accepted"
            );
            self.logged = Some(now);
            self.since = 0;
        }
    }
}

#[cfg(test)]
mod tests;
