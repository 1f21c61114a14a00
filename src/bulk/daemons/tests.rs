//! Connections to several servers that answer what they are told to, come and go.

use super::*;
use crate::bulk::client::Target;
use crate::bulk::connection::Connection;
use crate::clock::{Clock, Timestamp};
use bytes::Bytes;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const DONE: &str = "200 OK\r\ncontent-length: 2\r\n\r\n{}";

/// A server on a Unix socket.
struct Server {
    path: PathBuf,
    state: Arc<ServerState>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct ServerState {
    is_gone: AtomicBool,
    /// Status line, head and body of every answer.
    answer: Mutex<String>,
    asked: AtomicUsize,
    streams: Mutex<Vec<UnixStream>>,
}

impl Server {
    fn start(path: PathBuf) -> Self {
        let listener = UnixListener::bind(&path).unwrap();
        let state = Arc::new(ServerState::default());
        *state.answer.lock().unwrap() = DONE.to_owned();
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                if shared.is_gone.load(Ordering::SeqCst) {
                    return;
                }
                shared
                    .streams
                    .lock()
                    .unwrap()
                    .push(stream.try_clone().unwrap());
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.serve(&stream));
            }
        });
        let thread = Some(thread);
        Self {
            path,
            state,
            thread,
        }
    }

    fn answers(&self, answer: &str) {
        *self.state.answer.lock().unwrap() = answer.to_owned();
    }

    fn refuses(&self, status: &str, body: &str) {
        let length = body.len();
        self.answers(&format!(
            "{status}\r\ncontent-length: {length}\r\n\r\n{body}"
        ));
    }

    /// How many requests came since this was asked last.
    fn asked(&self) -> usize {
        self.state.asked.swap(0, Ordering::SeqCst)
    }

    /// Ends at once, as after `kill -9`.
    fn kill(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.state.is_gone.store(true, Ordering::SeqCst);
        UnixStream::connect(&self.path).unwrap();
        thread.join().unwrap();
        std::fs::remove_file(&self.path).unwrap();
        self.hang_up();
    }

    /// Ends every connection that there is, as a daemon ends idle ones.
    fn hang_up(&self) {
        for stream in self.state.streams.lock().unwrap().drain(..) {
            let _ended = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl ServerState {
    fn serve(&self, stream: &UnixStream) {
        let mut reader = BufReader::new(stream);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if !matches!(reader.read_line(&mut head), Ok(1..)) {
                    return;
                }
            }
            let mut body = [0; 2];
            if reader.read_exact(&mut body).is_err() {
                return;
            }
            self.asked.fetch_add(1, Ordering::SeqCst);
            let answer = self.answer.lock().unwrap().clone();
            let mut out = stream;
            if write!(out, "HTTP/1.1 {answer}").is_err() {
                return;
            }
        }
    }
}

/// Some servers, and the daemons that they are taken for.
struct Scene {
    servers: Vec<Server>,
    daemons: Daemons,
    clock: Clock,
    stop: Arc<AtomicBool>,
    folder: tempfile::TempDir,
}

impl Scene {
    fn of(count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |at: usize| folder.path().join(format!("{at}.sock"));
        let (clock, stop) = (
            Clock::manual(Timestamp(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let client = |at: usize| Client {
            endpoint: Endpoint::Unix(path(at)),
            address: None,
            credentials: None,
            authorities: None,
            clock: clock.clone(),
            stop: Arc::clone(&stop),
        };
        Self {
            servers: (0..count).map(|at| Server::start(path(at))).collect(),
            daemons: Daemons::new(client(0), (1..count).map(client).collect()),
            clock,
            stop,
            folder,
        }
    }

    fn connections(&self, count: usize) -> Vec<Connection> {
        let made = (0..count).map(|_| Connection::new(&self.daemons).unwrap());
        made.collect()
    }

    fn asked(&self) -> Vec<usize> {
        self.servers.iter().map(Server::asked).collect()
    }

    fn restart(&mut self, at: usize) {
        self.servers[at].kill();
        let path = self.folder.path().join(format!("{at}.sock"));
        self.servers[at] = Server::start(path);
    }

    fn reach(&self) -> Result<(), SourceError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(self.daemons.reach())
    }
}

fn call(connection: &mut Connection) -> Result<(), SourceError> {
    let target = Target::of_operation("ListKeys");
    let mut body = connection
        .call(&target, Bytes::from_static(b"{}"))?
        .into_body();
    while connection.next(&mut body)?.is_some() {}
    Ok(())
}

fn call_all(connections: &mut [Connection]) {
    for connection in connections {
        call(connection).unwrap();
    }
}

#[test]
fn connections_are_spread_and_kept() {
    let scene = Scene::of(3);
    let mut connections = scene.connections(6);
    for _ in 0..3 {
        call_all(&mut connections);
    }
    assert_eq!(scene.asked(), [6, 6, 6]);
    for server in &scene.servers {
        assert_eq!(server.state.streams.lock().unwrap().len(), 2);
    }
}

#[test]
fn one_that_ends_an_idle_connection_is_not_away() {
    let scene = Scene::of(3);
    let mut connections = scene.connections(6);
    call_all(&mut connections);
    scene.servers[1].hang_up();
    scene.asked();
    call_all(&mut connections);
    assert_eq!(scene.asked(), [2, 2, 2]);
}

#[test]
fn one_that_is_killed_is_passed_over_and_used_again_when_it_is_back() {
    let mut scene = Scene::of(3);
    let mut connections = scene.connections(6);
    call_all(&mut connections);
    scene.servers[1].kill();
    scene.asked();
    for _ in 0..2 {
        call_all(&mut connections);
    }
    assert_eq!(scene.asked(), [6, 0, 6]);
    // Still away: it is tried, and the calls are answered all the same.
    scene.clock.advance(Duration::from_secs(2));
    call_all(&mut connections);
    assert_eq!(scene.asked(), [3, 0, 3]);
    scene.restart(1);
    scene.clock.advance(Duration::from_secs(30));
    call_all(&mut connections);
    scene.asked();
    call_all(&mut connections);
    assert_eq!(scene.asked(), [2, 2, 2]);
}

#[test]
fn one_that_cannot_work_now_is_passed_over() {
    let scene = Scene::of(2);
    let [connection] = &mut scene.connections(1)[..] else {
        unreachable!("one was asked for")
    };
    call(connection).unwrap();
    assert_eq!(scene.asked(), [1, 0]);
    for (status, body) in [
        (
            "500 x",
            r#"{"__type":"KMSInternalException","message":"stale"}"#,
        ),
        ("500 x", r#"{"__type":"KMSInternalException"}"#),
        ("502 x", "<html>"),
        ("503 x", ""),
        ("504 x", "<html>"),
    ] {
        scene.servers[0].refuses(status, body);
        call(connection).unwrap();
        let asked = scene.asked();
        assert_eq!(asked, [1, 1], "{status} {body}");
        // The other one goes away as well, so that the first one is asked next.
        scene.servers[0].answers(DONE);
        scene.servers[1].refuses("503 x", "");
        scene.clock.advance(Duration::from_secs(60));
        call(connection).unwrap();
        scene.servers[1].answers(DONE);
        scene.clock.advance(Duration::from_secs(60));
        scene.asked();
    }
}

#[test]
fn a_refusal_is_not_asked_for_again_elsewhere() {
    let scene = Scene::of(2);
    let mut connections = scene.connections(1);
    for (status, body) in [
        (
            "400 x",
            r#"{"__type":"AccessDeniedException","message":"no"}"#,
        ),
        (
            "400 x",
            r#"{"__type":"ThrottlingException","message":"no"}"#,
        ),
        ("404 x", "<html>"),
    ] {
        scene.servers[0].refuses(status, body);
        let refused = call(&mut connections[0]).unwrap_err();
        let is_one = matches!(
            refused,
            SourceError::Refused { .. } | SourceError::Answer { .. }
        );
        assert!(is_one, "{refused}");
        assert_eq!(scene.asked(), [1, 0]);
    }
}

#[test]
fn when_all_are_away_each_is_named_with_its_reason() {
    let mut scene = Scene::of(3);
    let mut connections = scene.connections(2);
    call_all(&mut connections);
    scene.servers[0].kill();
    scene.servers[1].refuses(
        "500 x",
        r#"{"__type":"KMSInternalException","message":"stale"}"#,
    );
    scene.servers[2].kill();
    let away = call(&mut connections[0]).unwrap_err();
    assert!(matches!(away, SourceError::Connection { .. }), "{away}");
    let said = away.to_string();
    assert!(said.starts_with("all of 3 daemons are away: "), "{said}");
    for (at, reason) in [
        (0, ""),
        (1, "it answered KMSInternalException: stale"),
        (2, "No such file or directory"),
    ] {
        let name = format!("unix:{}/{at}.sock: {reason}", scene.folder.path().display());
        assert!(said.contains(&name), "{name}: {said}");
    }
    // The first that is back is found at once, however short a time ago it was away.
    scene.restart(2);
    call(&mut connections[1]).unwrap();
    call(&mut connections[0]).unwrap();
    scene.stop.store(true, Ordering::Relaxed);
    scene.servers[2].kill();
    let stopped = call(&mut connections[0]).unwrap_err();
    assert!(matches!(stopped, SourceError::Stopped), "{stopped}");
}

#[test]
fn one_alone_is_named_as_it_always_was() {
    let mut scene = Scene::of(1);
    let mut connections = scene.connections(1);
    call_all(&mut connections);
    scene.servers[0].kill();
    let broken = call(&mut connections[0]).unwrap_err().to_string();
    assert!(broken.starts_with("unix:/"), "{broken}");
    scene.restart(0);
    call_all(&mut connections);
}

#[test]
fn work_begins_where_one_is_there_and_all_are_trusted() {
    let mut scene = Scene::of(2);
    scene.servers[0].kill();
    scene.reach().unwrap();
    let mut connections = scene.connections(1);
    call_all(&mut connections);
    assert_eq!(scene.asked(), [0, 1]);
    scene.servers[1].kill();
    let away = scene.reach().unwrap_err().to_string();
    assert!(away.starts_with("all of 2 daemons are away: "), "{away}");
}

#[test]
fn a_name_is_looked_up_and_an_address_is_not() {
    for (text, named) in [
        ("http://127.0.0.1:1", None),
        ("https://[::1]:1", None),
        ("http://localhost:1", Some("localhost:1")),
        ("https://kms.example:5645", Some("kms.example:5645")),
        ("unix:localhost:1", None),
    ] {
        let endpoint: Endpoint = text.parse().unwrap();
        assert_eq!(name(&endpoint), named, "{text}");
    }
}

#[test]
fn of_a_name_whichever_address_answers_is_used() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = Client {
        endpoint: format!("http://localhost:{port}").parse().unwrap(),
        ..Scene::of(1).daemons.first().clone()
    };
    let daemons = Daemons::new(client, Vec::new());
    // As where a name has an address that this host has no way to.
    daemons.state().looked_up = Some(Duration::ZERO);
    let silent = SocketAddr::from(([127, 0, 0, 1], 1));
    let addresses = [silent, listener.local_addr().unwrap()];
    daemons.state().places.list(0, &addresses);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(daemons.reach()).unwrap();
    drop(listener);
    let away = runtime.block_on(daemons.reach()).unwrap_err().to_string();
    let named = format!("http://localhost:{port} (127.0.0.1): ");
    assert!(away.contains(&named), "{away}");
}
