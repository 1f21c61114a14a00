//! A proxy before a server's Unix socket, which cuts connections at a moment that a test chooses.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// What is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The server has the next statement, and its answer does not arrive.
    Answer = 1,
    /// The next statement does not reach the server.
    Question = 2,
}

#[derive(Default)]
struct State {
    next: AtomicU8,
    /// Statements that change the store, and pass before the one that is cut.
    before: AtomicUsize,
    cuts: AtomicUsize,
}

pub(super) struct Proxy {
    pub(super) folder: tempfile::TempDir,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(super) async fn start(server: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let state = Arc::new(State::default());
        let mut tasks = JoinSet::new();
        let (server, seen): (PathBuf, _) = (server.to_owned(), Arc::clone(&state));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&server).await.unwrap();
                connections.spawn(pass(client, server, Arc::clone(&seen)));
            }
        });
        Self {
            folder,
            state,
            _tasks: tasks,
        }
    }

    /// Cuts at the next statement that changes the store.
    pub(super) fn cut_next(&self, cut: Cut) {
        self.cut_after(0, cut);
    }

    /// The same behind so many of them.
    pub(super) fn cut_after(&self, before: usize, cut: Cut) {
        self.state.before.store(before, Ordering::SeqCst);
        self.state.next.store(cut as u8, Ordering::SeqCst);
    }

    pub(super) fn cuts(&self) -> usize {
        self.state.cuts.load(Ordering::SeqCst)
    }
}

async fn pass(client: UnixStream, server: UnixStream, state: Arc<State>) {
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    let lost = AtomicBool::new(false);
    tokio::select! {
        () = questions(from_client, to_server, &state, &lost) => {}
        () = answers(from_server, to_client, &lost) => {}
    }
}

async fn questions(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: &State,
    lost: &AtomicBool,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let bytes = &buffer[..read];
        let is_change = bytes.windows(6).any(|text| text == b"UPDATE");
        match state.next.load(Ordering::SeqCst) {
            cut if cut != 0 && is_change && state.before.load(Ordering::SeqCst) > 0 => {
                state.before.fetch_sub(1, Ordering::SeqCst);
                to.write_all(bytes).await.unwrap();
            }
            cut if cut != 0 && is_change => {
                state.next.store(0, Ordering::SeqCst);
                state.cuts.fetch_add(1, Ordering::SeqCst);
                if cut == Cut::Answer as u8 {
                    lost.store(true, Ordering::SeqCst);
                    to.write_all(bytes).await.unwrap();
                    // The server has time to do it.
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                return;
            }
            _ => to.write_all(bytes).await.unwrap(),
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, lost: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if lost.load(Ordering::SeqCst) {
            continue;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
