//! The whole program, `keymill dev`, with settings of the test's, in a folder that goes with it.

use crate::server::wire::{Answer, Request, Wire, within};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::UnixStream;

/// The pause between two checks for the work of another process.
const LOOK: Duration = Duration::from_millis(10);

/// A running program, killed when dropped.
pub(crate) struct Dev {
    child: Child,
    pub(crate) ready: Value,
    folder: tempfile::TempDir,
}

impl Dev {
    pub(crate) fn start(settings: &str) -> Self {
        let program = Command::new(env!("CARGO_BIN_EXE_keymill"));
        Self::start_as(program, settings).unwrap()
    }

    /// The same with at most `files` open files, which it cannot raise.
    pub(crate) fn start_with_files(files: u32, settings: &str) -> Self {
        Self::start_as(limited(files), settings).unwrap()
    }

    /// Its output when it does not start with so few open files.
    pub(crate) fn refused_with_files(files: u32) -> String {
        let started = Self::start_as(limited(files), "");
        started.err().expect("a refusal")
    }

    /// Its log, when it does not become ready.
    fn start_as(mut program: Command, settings: &str) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("keymill.toml"), settings).unwrap();
        let log = File::create(folder.path().join("daemon.log")).unwrap();
        let mut child = program
            .env_clear()
            .args(["dev", "--json", "--listen", "127.0.0.1:0", "--dir"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        match serde_json::from_str(&line) {
            Ok(ready) => Ok(Self {
                child,
                ready,
                folder,
            }),
            Err(_) => {
                drop(child.kill());
                child.wait().unwrap();
                Err(fs::read_to_string(folder.path().join("daemon.log")).unwrap())
            }
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("daemon.log")).unwrap()
    }

    /// Waits until the log contains this.
    pub(crate) async fn logs(&self, what: &str) {
        within(async {
            while !self.log().contains(what) {
                tokio::time::sleep(LOOK).await;
            }
        })
        .await;
    }

    pub(crate) fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }

    /// Asks on a connection of its own to one of its sockets.
    pub(crate) async fn ask(&self, socket: &str, request: &Request) -> Answer {
        ask(&self.path(socket), request).await
    }
}

impl Drop for Dev {
    #[expect(clippy::print_stderr, reason = "a failed test shows it")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn limited(files: u32) -> Command {
    let mut shell = Command::new("/bin/sh");
    let limited = format!("ulimit -n {files} && exec \"$0\" \"$@\"");
    shell.args(["-c", &limited, env!("CARGO_BIN_EXE_keymill")]);
    shell
}

pub(crate) async fn ask(socket: &Path, request: &Request) -> Answer {
    let stream = within(UnixStream::connect(socket)).await.unwrap();
    Wire::new(stream).ask(request).await
}
