//! aws-sdk-kms in a pod: a role's ARN, the file of a token, a Region and an endpoint are in the
//! environment, and nothing is set in code.

use super::{ALIAS_OF_DEV, Daemon, report};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use aws_sdk_kms::error::DisplayErrorContext;
use aws_sdk_kms::types::DataKeySpec;
use aws_sdk_kms::{Client, Error};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use keymill::clock::Clock;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const ISSUER: &str = "issuer.example/id/42";
const AUDIENCE: &str = "sts.amazonaws.com";
const SUBJECT: &str = "system:serviceaccount:payments:minter";
const ROUNDS: usize = 3;
const MADE: &str = "made and opened all";
const RECORDS_WAIT_MAX: Duration = Duration::from_secs(10);

/// An issuer whose keys are in a file.
struct Issuer {
    key: EncodingKey,
    folder: tempfile::TempDir,
}

impl Issuer {
    fn new() -> Self {
        let der =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let der = der.unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref()).unwrap();
        let encoded = |bytes| base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes);
        // An uncompressed point: 4, x and y.
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let key =
            json!({"kid": "a", "kty": "EC", "crv": "P-256", "x": encoded(x), "y": encoded(y)});
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("keys.json"),
            json!({"keys": [key]}).to_string(),
        )
        .unwrap();
        Self {
            key: EncodingKey::from_ec_der(der.as_ref()),
            folder,
        }
    }

    fn settings(&self) -> String {
        let keys = self.folder.path().join("keys.json");
        format!(
            "[issuers.cluster]\nurl = 'https://{ISSUER}'\naudiences = ['{AUDIENCE}']\njwks_file = '{}'\n",
            keys.display()
        )
    }

    /// A file with a pod's token, which expires in so many seconds.
    fn token(&self, expires_in: i64) -> PathBuf {
        let now = i64::try_from(Clock::system().now().unix_seconds()).unwrap();
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some("a".to_owned());
        let claims = json!({
            "aud": [AUDIENCE], "exp": now + expires_in, "iat": now - 3600, "iss": format!("https://{ISSUER}"),
            "kubernetes.io": {"namespace": "payments", "serviceaccount": {"name": "minter"}},
            "nbf": now - 3600, "sub": SUBJECT,
        });
        let file = self.folder.path().join(format!("token-{expires_in}"));
        fs::write(
            &file,
            jsonwebtoken::encode(&header, &claims, &self.key).unwrap() + "\n",
        )
        .unwrap();
        file
    }
}

/// Makes a role that mints and opens, and that trusts the issuer's word on a subject; its ARN.
fn role(daemon: &Daemon, issuer: &Issuer, name: &str, subject: &str) -> String {
    let account = daemon.facts["account"].as_str().unwrap();
    let trust = json!({"Version": "2012-10-17", "Statement": {
        "Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
        "Principal": {"Federated": format!("arn:aws:iam::{account}:oidc-provider/{ISSUER}")},
        "Condition": {"StringEquals": {format!("{ISSUER}:sub"): subject}},
    }});
    let rights = json!({"Version": "2012-10-17", "Statement": {
        "Effect": "Allow", "Resource": "*",
        "Action": ["kms:GenerateDataKeyWithoutPlaintext", "kms:Decrypt"],
    }});
    let [trust, rights] = [("trust", trust), ("rights", rights)].map(|(kind, policy)| {
        let file = issuer.folder.path().join(format!("{name}-{kind}.json"));
        fs::write(&file, policy.to_string()).unwrap();
        file
    });
    let socket = daemon.facts["socket"].as_str().unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_keymill"))
        .args(["principal", "create", name, "--kind", "role", "--json"])
        .args(["--endpoint", &format!("unix:{socket}")])
        .arg("--policy")
        .arg(rights)
        .arg("--trust-policy")
        .arg(trust)
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&made.stdout).unwrap_or_else(|_| panic!("{made:?}"));
    told["Arn"].as_str().unwrap().to_owned()
}

/// What the program in a pod says. It is a process of its own, because the SDK reads the
/// environment of its process.
fn run(daemon: &Daemon, role: &str, session: &str, token: &PathBuf) -> String {
    let mut pod = Command::new(std::env::current_exe().unwrap());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
        pod.env_remove(name);
    }
    let done = pod
        .args(["--ignored", "--exact", "--nocapture", "sdk::pod::program"])
        .env("AWS_ROLE_ARN", role)
        .env("AWS_ROLE_SESSION_NAME", session)
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", token)
        .env("AWS_REGION", daemon.facts["region"].as_str().unwrap())
        .env(
            "AWS_ENDPOINT_URL",
            daemon.facts["endpoint"].as_str().unwrap(),
        )
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
}

#[tokio::test]
#[ignore = "what the test below starts, with the environment of a pod"]
async fn program() {
    match make_and_open().await {
        Ok(()) => println!("{MADE}"),
        Err(error) => println!("{}", DisplayErrorContext(error)),
    }
}

/// What its user writes.
async fn make_and_open() -> Result<(), Error> {
    let kms = Client::new(&aws_config::load_from_env().await);
    for _ in 0..ROUNDS {
        let made = kms
            .generate_data_key_without_plaintext()
            .key_id(ALIAS_OF_DEV);
        let made = made.key_spec(DataKeySpec::Aes256).send().await?;
        let blob = made.ciphertext_blob.unwrap();
        let opened = kms.decrypt().ciphertext_blob(blob).send().await?;
        assert_eq!(opened.plaintext.unwrap().as_ref().len(), 32);
    }
    Ok(())
}

/// The names of a session's records in the audit log, once there are so many.
fn records(daemon: &Daemon, session: &str, count: usize) -> Vec<String> {
    let clock = Clock::system();
    let (began, session) = (
        clock.monotonic(),
        format!(":assumed-role/minter/{session}\""),
    );
    loop {
        let files = fs::read_dir(daemon.folder.path().join("state/audit")).unwrap();
        let texts = files.map(|file| fs::read(file.unwrap().path()).unwrap());
        let texts: Vec<_> = texts
            .filter_map(|bytes| String::from_utf8(bytes).ok())
            .collect();
        let lines = texts.iter().flat_map(|text| text.lines());
        let records = lines.filter(|line| line.contains(&session));
        let records = records.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let names = records.map(|record| record["eventName"].as_str().unwrap().to_owned());
        let names: Vec<_> = names.collect();
        if names.len() >= count {
            return names;
        }
        assert!(clock.monotonic() - began < RECORDS_WAIT_MAX, "{names:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_unchanged_client_in_a_pod_assumes_its_role() {
    let issuer = Issuer::new();
    let daemon = Daemon::start(&issuer.settings());
    let minter = role(&daemon, &issuer, "minter", SUBJECT);
    let other = role(
        &daemon,
        &issuer,
        "other",
        "system:serviceaccount:payments:auditor",
    );
    let said = run(&daemon, &minter, "rust", &issuer.token(3600));
    assert!(said.contains(MADE), "{said}");
    // One session is enough for all calls.
    let names = records(&daemon, "rust", 2 * ROUNDS + 1);
    let assumed = names
        .iter()
        .filter(|name| *name == "AssumeRoleWithWebIdentity");
    assert_eq!(
        (names.len(), assumed.count()),
        (2 * ROUNDS + 1, 1),
        "{names:?}"
    );
    for (role, expires_in, code) in [
        (&minter, -600, "ExpiredTokenException"),
        (&other, 3600, "AccessDenied"),
    ] {
        let said = run(&daemon, role, "refused", &issuer.token(expires_in));
        assert!(said.contains(code) && !said.contains(MADE), "{said}");
    }
    report("aws-sdk-kms (Rust) in a pod", names.len() + 2);
}
