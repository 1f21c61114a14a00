//! One connection: it is connected and served, may be told to close for another one or for a
//! shutdown, and is then left open for its last answer to be read.

use crate::transport::places::{Notice, Place};
use crate::transport::write_timeout::WriteTimeout;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1::Builder;
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How long an idle connection that must close may take to send the rest of its data.
const LET_GO_TIME: Duration = Duration::from_secs(1);
/// How long a shutdown leaves idle connections open. A request in that time is answered, and the
/// answer states that it is the last one. A client that keeps its connection and asks less often
/// may find it closed, as with every server.
pub(super) const LAST_CALL: Duration = Duration::from_millis(200);
/// How long, and for how many bytes, a peer whose request was not read to its end may continue to
/// send. Closing at once would reset the connection, and a peer that has not read its answer yet
/// would lose it.
const LINGER_MAX: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Returns when the listener must shut down.
pub(super) async fn down(shutdown: &mut watch::Receiver<bool>) {
    drop(shutdown.wait_for(|down| *down).await);
}

/// One connection, and the channels that end it.
pub(super) struct Connection {
    pub(super) transport: &'static str,
    pub(super) builder: Builder,
    pub(super) write_timeout: Duration,
    pub(super) place: Arc<Place>,
    pub(super) notice: Notice,
    pub(super) shutdown: watch::Receiver<bool>,
}

/// Why the service of a connection ends.
enum End {
    /// The peer ended it, or an error did.
    Served,
    /// It is closed to make room for another connection.
    LetGo,
    /// The listener drains.
    Drain,
}

impl Connection {
    /// Connects, serves, and waits until the peer has read the last answer.
    pub(super) async fn serve<T, S, B>(
        mut self,
        connected: impl Future<Output = io::Result<(T, S)>>,
    ) where
        T: AsyncRead + AsyncWrite + Unpin,
        S: HttpService<Incoming, ResBody = B>,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
        B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
    {
        let mut shutdown = self.shutdown.clone();
        let connected = tokio::select! {
            biased;
            connected = connected => connected,
            () = self.notice.given() => return,
            // Nothing was asked yet.
            () = async { down(&mut shutdown).await; sleep(LAST_CALL).await } => return,
        };
        let left = match connected {
            Ok((stream, service)) => self.run(stream, service).await,
            Err(error) => {
                let transport = self.transport;
                tracing::debug!(transport, %error, "connection refused");
                None
            }
        };
        if let Some(stream) = left {
            tokio::select! {
                () = linger(stream) => {}
                () = self.notice.given() => {}
            }
        }
    }

    /// Serves to the end. Returns the stream if its peer may still have something to read. A
    /// shutdown gives a caller a moment for one more request, answers it, and closes.
    async fn run<T, S, B>(&mut self, stream: T, service: S) -> Option<T>
    where
        T: AsyncRead + AsyncWrite + Unpin,
        S: HttpService<Incoming, ResBody = B>,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
        B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
    {
        let stream = TokioIo::new(WriteTimeout::new(stream, self.write_timeout));
        let mut connection = self.builder.serve_connection(stream, service);
        let mut result = Ok(());
        let end = {
            let mut down = pin!(down(&mut self.shutdown));
            let mut given = pin!(self.notice.given());
            tokio::select! {
                biased;
                served = &mut connection => { result = served; End::Served }
                () = &mut given => End::LetGo,
                () = &mut down => End::Drain,
            }
        };
        match end {
            End::Served => {}
            End::LetGo if self.place.is_strangers() => return None,
            End::LetGo => {
                // It may have become busy at this moment; then it ends after its answer.
                self.place.close();
                Pin::new(&mut connection).graceful_shutdown();
                match timeout(LET_GO_TIME, &mut connection).await {
                    Ok(served) => result = served,
                    Err(_) if self.place.is_busy() => result = (&mut connection).await,
                    Err(_) => return None,
                }
            }
            End::Drain => {
                self.place.close();
                result = match timeout(LAST_CALL, &mut connection).await {
                    Ok(served) => served,
                    Err(_) => {
                        Pin::new(&mut connection).graceful_shutdown();
                        (&mut connection).await
                    }
                };
            }
        }
        if let Err(error) = result {
            tracing::debug!(%error, "connection ended");
        }
        let stream = connection.into_parts().io.into_inner();
        matches!(end, End::Served).then(|| stream.still_open())?
    }
}

/// Signals the end of the answer, and discards what still arrives, within bounds.
pub(in crate::transport) async fn linger(stream: impl AsyncRead + AsyncWrite + Unpin) {
    // The outcome does not matter: the connection is closed either way.
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
