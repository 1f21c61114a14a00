//! The command line, from the outside: every case of the manual is a file in `tests/cli`, and
//! `keymill dev` is started for real.
//!
//! A case runs in an empty folder of its own, with only the variables that it names:
//!
//! ```toml
//! about = "what a reader learns"
//! store = true                      # makes store/ beforehand, as `keymill dev` does
//! [files]                           # written beforehand; below private/, for the owner alone
//! "policy.json" = "{}"
//! [[step]]                          # in order
//! arguments = ["key", "describe", "{key}"]
//! environment = { KEYMILL_REGION = "eu-west-1" }
//! input = "text for standard input"
//! status = 0
//! stdout = ["each of these occurs"] # and nothing is printed when it is not named
//! stderr = ["each of these occurs"]
//! keep = { key = "/KeyMetadata/KeyId" } # from JSON output, for {key} in later steps
//! ```

use keymill::config::{Config, Environment};
use keymill::daemon::{Core, Opening};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    about: String,
    #[serde(default)]
    store: bool,
    #[serde(default)]
    files: BTreeMap<String, String>,
    step: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    arguments: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    input: String,
    status: i32,
    stdout: Option<Vec<String>>,
    stderr: Option<Vec<String>>,
    #[serde(default)]
    keep: BTreeMap<String, String>,
}

#[test]
fn every_case_ends_as_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 10, "{paths:?}");
    for path in paths {
        let case: Case = toml::from_str(&fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        run(&name, &case);
    }
}

fn run(name: &str, case: &Case) {
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in &case.files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        if file.starts_with("private/") {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
    if case.store {
        make_store(&folder.path().join("store"));
    }
    let mut kept = BTreeMap::from([("folder".to_owned(), folder.path().display().to_string())]);
    for (number, step) in case.step.iter().enumerate() {
        let place = format!("{name} ({}), step {}", case.about, number + 1);
        let fill = |text: &String| {
            kept.iter().fold(text.clone(), |text, (name, value)| {
                text.replace(&format!("{{{name}}}"), value)
            })
        };
        let mut child = keymill(folder.path())
            .args(step.arguments.iter().map(fill))
            .envs(&step.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that does not read its input closes it.
        let _closed = child
            .stdin
            .take()
            .unwrap()
            .write_all(fill(&step.input).as_bytes());
        let output = child.wait_with_output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let seen = format!("{place}\n--- stdout\n{stdout}--- stderr\n{stderr}---");
        assert_eq!(output.status.code(), Some(step.status), "{seen}");
        for (expected, text) in [(&step.stdout, &stdout), (&step.stderr, &stderr)] {
            match expected {
                None => assert_eq!(text, "", "{seen}"),
                Some(expected) => {
                    for part in expected {
                        assert!(text.contains(&fill(part)), "{part:?} is missing: {seen}");
                    }
                }
            }
        }
        let values: Vec<_> = step
            .keep
            .iter()
            .map(|(name, pointer)| {
                let json: Value = serde_json::from_str(&stdout).unwrap();
                let value = json.pointer(pointer).and_then(Value::as_str);
                (name.clone(), value.expect(&seen).to_owned())
            })
            .collect();
        kept.extend(values);
    }
}

fn keymill(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keymill"));
    command.current_dir(folder).env_clear();
    command
}

fn make_store(folder: &Path) {
    fs::create_dir(folder).unwrap();
    let file = folder.join("keymill.toml");
    fs::write(&file, "").unwrap();
    let loaded = Config::load(Some(&file), &Environment::default(), &[]).unwrap();
    let mut config = loaded.config;
    config.pool.enabled = false;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let pool = config.pool.clone();
        let core = Core::open(&config, pool, Opening::First(|_| ())).await;
        core.unwrap().close().await.unwrap();
    });
}

/// A running `keymill dev`, killed when a test fails.
struct Dev {
    child: Child,
    /// Kept open: a closed pipe would look like a reader that wants no more.
    stdout: BufReader<ChildStdout>,
    ready: Value,
}

impl Dev {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut child = keymill(folder)
            .args(["dev", "--json", "--dir", "dev"])
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let told = || fs::read_to_string(folder.join("stderr")).unwrap_or_default();
        let ready = serde_json::from_str(&line);
        Self {
            child,
            stdout,
            ready: ready.unwrap_or_else(|error| panic!("{error}: {line}{}", told())),
        }
    }

    fn text(&self, pointer: &str) -> &str {
        let value = self.ready.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_else(|| panic!("{pointer} is missing: {}", self.ready))
    }

    /// Ends it in order.
    fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "one line on standard output");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It has ended already unless a test has failed.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

#[test]
fn dev_makes_everything_once_and_finds_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let first = Dev::start(folder.path(), &["--account", "444455556666"]);
    assert_eq!(first.text("/region"), "us-east-1");
    assert_eq!(first.text("/account"), "444455556666");
    for name in ["admin", "provisioner", "consumer", "rewrapper"] {
        let arn = format!("arn:aws:iam::444455556666:user/{name}");
        assert_eq!(first.text(&format!("/principals/{name}/arn")), arn);
        let id = first.text(&format!("/principals/{name}/access_key_id"));
        let secret = first.text(&format!("/principals/{name}/secret_access_key"));
        assert_eq!((id.len(), secret.len()), (20, 40));
    }
    for endpoint in ["/endpoint", "/admin_endpoint"] {
        let port = first.text(endpoint).strip_prefix("http://127.0.0.1:");
        assert_ne!(port.unwrap().parse::<u16>().unwrap(), 0);
    }
    let dev = folder.path().join("dev");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dev), 0o700);
    assert_eq!(mode(&dev.join("root.key")), 0o600);
    assert_eq!(Path::new(first.text("/socket")), dev.join("keymill.sock"));
    for name in ["consumer", "rewrapper"] {
        let socket = first.text(&format!("/sockets/{name}"));
        assert_eq!(Path::new(socket), dev.join(format!("{name}.sock")));
        assert_eq!(mode(Path::new(socket)), 0o600);
    }
    let principals = first.ready["principals"].clone();
    first.stop();

    let second = Dev::start(folder.path(), &[]);
    assert_eq!(second.ready["principals"], principals);
    second.stop();

    let refused = keymill(folder.path())
        .args(["dev", "--dir", "dev", "--account", "111122223333"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(78));
    let line = String::from_utf8(refused.stderr).unwrap();
    assert!(
        line.contains("are of account 444455556666, not 111122223333"),
        "{line}"
    );
}

#[test]
fn a_taken_port_names_the_flag_and_leaves_the_store_whole() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = keymill(folder.path())
        .args(["dev", "--dir", "dev", "--listen", &address])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(69));
    assert_eq!(refused.stdout, b"");
    let text = String::from_utf8(refused.stderr).unwrap();
    let line =
        format!("keymill: {address} (listen.tcp) is taken by another process: choose another");
    assert!(text.contains(&line), "{text}");
    Dev::start(folder.path(), &[]).stop();
}

#[test]
fn the_operators_commands_go_through_the_daemon_that_has_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path(), &[]);
    let json = |arguments: &[&str]| -> Value {
        let output = keymill(folder.path()).args(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {told}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let socket = format!("unix:{}", dev.text("/socket"));
    let created = json(&["key", "create", "--dir", "dev", "--json"]);
    let key = created["KeyMetadata"]["KeyId"].as_str().unwrap();
    let listed = json(&["key", "list", "--endpoint", &socket, "--json"]);
    let listed: Vec<_> = listed["Keys"].as_array().unwrap().iter().collect();
    // Those of `alias/containers` and `alias/next`, and the new one.
    assert_eq!(listed.len(), 3);
    assert!(listed.iter().any(|listed| listed["KeyId"] == *key));
    let principals = json(&["principal", "list", "--dir", "dev", "--json"]);
    assert_eq!(principals["Principals"].as_array().unwrap().len(), 4);
    let consumer = "arn:aws:iam::111122223333:user/consumer";
    let check = ["policy", "check", "--principal", consumer, "--action"];
    let at = ["--key", "alias/containers", "--endpoint", &socket, "--json"];
    let allowed = json(&[&check[..], &["kms:Decrypt"], &at].concat());
    let by = format!("statement 1 of identity policy 1 of {consumer}");
    assert_eq!(
        (&allowed["allowed"], &allowed["by"]),
        (&true.into(), &by.into())
    );
    let denied = keymill(folder.path())
        .args([&check[..], &["kms:Encrypt"], &at].concat())
        .output()
        .unwrap();
    assert_eq!(denied.status.code(), Some(1));
    assert!(
        String::from_utf8(denied.stdout)
            .unwrap()
            .contains("\"allowed\":false")
    );
    json(&["principal", "disable", "consumer", "--dir", "dev", "--json"]);
    let disabled = json(&[
        "principal",
        "describe",
        consumer,
        "--endpoint",
        &socket,
        "--json",
    ]);
    assert_eq!(disabled["Enabled"], false);

    let export = keymill(folder.path())
        .args(["export", "--dir", "dev", "--key", "alias/containers"])
        .args(["--count", "10", "--out", "out"])
        .output()
        .unwrap();
    assert_eq!(export.status.code(), Some(69));
    let line = String::from_utf8(export.stderr).unwrap();
    assert!(line.contains(&format!("--endpoint {socket}")), "{line}");
    let outcome = json(&[
        "export",
        "--endpoint",
        &socket,
        "--key",
        "alias/containers",
        "--count",
        "10",
        "--out",
        "out",
        "--json",
    ]);
    assert_eq!(
        (&outcome["rows"], &outcome["ending"]),
        (&10.into(), &"finished".into())
    );

    let exported = keymill(folder.path())
        .args([
            "export",
            "--endpoint",
            dev.text("/endpoint"),
            "--key",
            "alias/containers",
        ])
        .args(["--count", "10", "--out", "signed"])
        .env(
            "AWS_ACCESS_KEY_ID",
            dev.text("/principals/provisioner/access_key_id"),
        )
        .env(
            "AWS_SECRET_ACCESS_KEY",
            dev.text("/principals/provisioner/secret_access_key"),
        )
        .env("AWS_REGION", "us-east-1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&exported.stderr).into_owned();
    assert_eq!(exported.status.code(), Some(0), "{told}");
    dev.stop();
}
