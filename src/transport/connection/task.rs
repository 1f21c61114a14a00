//! One connection's life: connected, served, told that it is let go or that the listener drains,
//! and left to read its last answer.

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

/// What an idle connection that is let go is given to send what it has left to send.
const LET_GO_TIME: Duration = Duration::from_secs(1);
/// How long a shutdown leaves connections open on which nothing is asked: a caller that asks in
/// that time is answered, and told that it was the last answer. A caller that keeps its connection
/// and asks more seldom may meet a closed one, as with every server.
pub(super) const LAST_CALL: Duration = Duration::from_millis(200);
/// How long, and for how many bytes, a peer whose request was not read to its end may go on
/// sending: closing at once would reset the connection, and take the answer away from a peer that
/// has not read it yet.
const LINGER_MAX: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Ends when the listener is to be shut down.
pub(super) async fn down(shutdown: &mut watch::Receiver<bool>) {
    drop(shutdown.wait_for(|down| *down).await);
}

/// One connection and what it listens to.
pub(super) struct Connection {
    pub(super) transport: &'static str,
    pub(super) builder: Builder,
    pub(super) write_timeout: Duration,
    pub(super) place: Arc<Place>,
    pub(super) notice: Notice,
    pub(super) shutdown: watch::Receiver<bool>,
}

/// What ends the service of a connection.
enum End {
    /// Its peer, or an error.
    Served,
    /// It is let go for another.
    LetGo,
    /// The listener drains.
    Drain,
}

impl Connection {
    /// Connects, serves, and lets its peer read what was answered last.
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
            // Nobody has asked for anything yet.
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

    /// Serves to the end; the stream, if its peer may still have something to read. A shutdown
    /// gives a caller that is about to ask a moment to do so, answers what was asked, and closes.
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
                // It may have become busy in this moment; then it ends with its answer.
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

/// Says that nothing more will come, and throws away what still comes, within bounds.
pub(in crate::transport) async fn linger(stream: impl AsyncRead + AsyncWrite + Unpin) {
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
