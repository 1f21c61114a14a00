//! aws-sdk-kms against a running daemon, over TCP: key and alias by the admin, data keys by the
//! provisioner, opened by the consumer.

use aws_sdk_kms::config::{Credentials, Region};
use aws_sdk_kms::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeySpec, KeyState};
use aws_sdk_kms::{Client, Config};
use serde_json::Value;
use std::collections::HashSet;
use std::fmt::Debug;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

mod pod;

const ALIAS: &str = "alias/sdk-rust";
/// The alias that `keymill dev` makes.
const ALIAS_OF_DEV: &str = "alias/containers";
const BLOB_BYTES: usize = 96;
const ROUNDS: usize = 25;
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// `keymill dev` in a folder of its own, killed when dropped.
struct Daemon {
    process: Child,
    facts: Value,
    folder: tempfile::TempDir,
}

impl Daemon {
    /// A daemon with this configuration.
    fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&state)
            .unwrap();
        std::fs::write(state.join("keymill.toml"), settings).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_keymill"));
        command.args([
            "dev",
            "--json",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--dir",
        ]);
        command.arg(state);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KEYMILL_")) {
            command.env_remove(name);
        }
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let facts = serde_json::from_str(&line).unwrap_or_else(|error| {
            panic!("{error}: the daemon said {line:?} when it was to be ready")
        });
        Self {
            process,
            facts,
            folder,
        }
    }

    fn client(&self, role: &str) -> Client {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let principal = &self.facts["principals"][role];
        let credentials = Credentials::new(
            text(&principal["access_key_id"]),
            text(&principal["secret_access_key"]),
            None,
            None,
            "tests",
        );
        let config = Config::builder()
            .behavior_version_latest()
            .region(Region::new(text(&self.facts["region"])))
            .endpoint_url(text(&self.facts["endpoint"]))
            .credentials_provider(credentials)
            .build();
        Client::from_conf(config)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has then noticed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Counts a call, and passes on what came of it.
async fn counted<T>(call: impl Future<Output = T>) -> T {
    CALLS.fetch_add(1, Ordering::Relaxed);
    call.await
}

async fn answered<T, E: std::error::Error + 'static>(
    call: impl Future<Output = Result<T, E>>,
) -> T {
    counted(call)
        .await
        .unwrap_or_else(|error| panic!("{}", DisplayErrorContext(error)))
}

/// Checks the code of a refusal, and its message if one is given.
async fn refused<T: Debug, E: ProvideErrorMetadata + Debug>(
    code: &str,
    message: Option<&str>,
    call: impl Future<Output = Result<T, E>>,
) -> E {
    let error = counted(call).await.expect_err(code);
    assert_eq!(error.code(), Some(code), "{error:?}");
    if let Some(message) = message {
        assert_eq!(error.message(), Some(message));
    }
    error
}

#[tokio::test]
async fn aws_sdk_kms_round_trips_and_is_refused() {
    let daemon = Daemon::start("");
    let [admin, provisioner, consumer] =
        ["admin", "provisioner", "consumer"].map(|role| daemon.client(role));
    let made = answered(
        admin
            .create_key()
            .description("made by the Rust SDK")
            .send(),
    )
    .await;
    let key = made.key_metadata.unwrap();
    answered(
        admin
            .create_alias()
            .alias_name(ALIAS)
            .target_key_id(&key.key_id)
            .send(),
    )
    .await;
    let arn = key.arn.unwrap();
    let alias_arn = arn.replace(&format!("key/{}", key.key_id), ALIAS);
    let names = [key.key_id.as_str(), &arn, ALIAS, &alias_arn];

    let blob = ask_and_open(&provisioner, &consumer, names).await;
    rights(&daemon, &provisioner, &consumer, &arn, &blob).await;
    refusals(&admin, &provisioner, &consumer, &arn, &blob).await;
    report("aws-sdk-kms (Rust)", CALLS.load(Ordering::Relaxed));
}

/// By every name, with and without context; returns the last blob, which has a context.
async fn ask_and_open(provisioner: &Client, consumer: &Client, names: [&str; 4]) -> Blob {
    let arn = names[1];
    let mut seen = HashSet::new();
    let mut last = None;
    for round in 0..ROUNDS {
        for name in names {
            for context in [None, Some(format!("container-{round:012}"))] {
                let ask = provisioner
                    .generate_data_key_without_plaintext()
                    .key_id(name)
                    .key_spec(DataKeySpec::Aes256);
                let open = consumer.decrypt();
                let (ask, open) = match &context {
                    Some(container) => (
                        ask.encryption_context("container", container),
                        open.encryption_context("container", container),
                    ),
                    None => (ask, open),
                };
                let made = answered(ask.send()).await;
                let blob = made.ciphertext_blob.unwrap();
                assert_eq!(
                    (made.key_id.as_deref(), blob.as_ref().len()),
                    (Some(arn), BLOB_BYTES)
                );
                let opened = answered(open.ciphertext_blob(blob.clone()).send()).await;
                assert_eq!(opened.key_id.as_deref(), Some(arn));
                assert_eq!(opened.key_material_id, made.key_material_id);
                assert_eq!(opened.plaintext.unwrap().as_ref().len(), 32);
                assert!(seen.insert(blob.as_ref().to_vec()), "a data key came twice");
                last = Some(blob);
            }
        }
    }
    last.unwrap()
}

/// A principal that makes keys cannot open them, and one that opens them cannot make them.
async fn rights(daemon: &Daemon, provisioner: &Client, consumer: &Client, arn: &str, blob: &Blob) {
    let unnamed = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.";
    refused(
        "AccessDeniedException",
        Some(unnamed),
        provisioner.decrypt().ciphertext_blob(blob.clone()).send(),
    )
    .await;
    let caller = daemon.facts["principals"]["provisioner"]["arn"]
        .as_str()
        .unwrap();
    let named = format!(
        "User: {caller} is not authorized to perform: kms:Decrypt on resource: {arn} because no identity-based policy allows the kms:Decrypt action"
    );
    refused(
        "AccessDeniedException",
        Some(&named),
        provisioner
            .decrypt()
            .key_id(ALIAS)
            .ciphertext_blob(blob.clone())
            .send(),
    )
    .await;
    refused(
        "AccessDeniedException",
        None,
        provisioner
            .generate_data_key()
            .key_id(ALIAS)
            .key_spec(DataKeySpec::Aes256)
            .send(),
    )
    .await;
    refused(
        "AccessDeniedException",
        None,
        consumer
            .generate_data_key_without_plaintext()
            .key_id(ALIAS)
            .number_of_bytes(32)
            .send(),
    )
    .await;
}

async fn refusals(admin: &Client, provisioner: &Client, consumer: &Client, arn: &str, blob: &Blob) {
    let ask = || provisioner.generate_data_key_without_plaintext();
    let error = refused(
        "InvalidCiphertextException",
        None,
        consumer.decrypt().ciphertext_blob(blob.clone()).send(),
    )
    .await;
    assert!(
        error
            .as_service_error()
            .is_some_and(|error| error.is_invalid_ciphertext_exception()),
        "{error:?}"
    );
    let error = refused(
        "NotFoundException",
        None,
        admin.describe_key().key_id("alias/nobody").send(),
    )
    .await;
    assert!(
        error
            .as_service_error()
            .is_some_and(|error| error.is_not_found_exception()),
        "{error:?}"
    );
    let neither = "Please specify either number of bytes or key spec.";
    refused(
        "ValidationException",
        Some(neither),
        ask().key_id(arn).send(),
    )
    .await;
    let long = "1 validation error detected: Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less than or equal to 1024";
    refused(
        "ValidationException",
        Some(long),
        ask().key_id(arn).number_of_bytes(1025).send(),
    )
    .await;
    let dry = "The request would have succeeded, but the DryRun option is set.";
    refused(
        "DryRunOperationException",
        Some(dry),
        ask().key_id(arn).number_of_bytes(32).dry_run(true).send(),
    )
    .await;
    answered(admin.disable_key().key_id(arn).send()).await;
    let disabled = format!("{arn} is disabled.");
    let error = refused(
        "DisabledException",
        Some(&disabled),
        ask().key_id(ALIAS).number_of_bytes(32).send(),
    )
    .await;
    assert!(
        error
            .as_service_error()
            .is_some_and(|error| error.is_disabled_exception()),
        "{error:?}"
    );
    answered(admin.enable_key().key_id(arn).send()).await;
    answered(ask().key_id(ALIAS).number_of_bytes(32).send()).await;
    let described = answered(admin.describe_key().key_id(ALIAS).send()).await;
    assert_eq!(
        described.key_metadata.unwrap().key_state,
        Some(KeyState::Enabled)
    );
}

/// Leaves the line that names this client for `tests/run`.
fn report(name: &str, calls: usize) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    std::fs::create_dir_all(&folder).unwrap();
    let line = format!("{name} {}: {calls} calls\n", aws_sdk_kms::meta::PKG_VERSION);
    std::fs::write(folder.join(name.replace(['(', ')', ' '], "-")), line).unwrap();
}
