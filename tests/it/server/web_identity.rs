//! Tokens of another issuer over the wire: their holders have no credentials of this service, and
//! get those of a role.

use crate::server::daemon::{Daemon, NOW, PROVISIONER, REGION, Setup};
use crate::server::wire::{Answer, Request};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use keymill::auth::Credentials;
use keymill::crypto::secret::SecretBytes;
use keymill::web_identity::issuer;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

const ROLE: &str = "arn:aws:iam::111122223333:role/ci";
const ISSUER: &str = "issuer.example/a";

/// A daemon with an issuer, and a role that trusts it.
struct Federated {
    daemon: Daemon,
    key: EncodingKey,
    _folder: tempfile::TempDir,
}

impl Federated {
    async fn start() -> Self {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap();
        let encoded = base64_simd::URL_SAFE_NO_PAD.encode_to_string(pair.public_key());
        let keys = json!({"keys": [{"kid": "a", "kty": "OKP", "crv": "Ed25519", "x": encoded}]});
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.json");
        std::fs::write(&file, keys.to_string()).unwrap();
        let issuer = issuer::Config {
            url: format!("https://{ISSUER}"),
            audiences: vec!["keymill".to_owned()],
            account: String::new(),
            jwks_file: file,
            jwks_url: String::new(),
            ca_file: PathBuf::new(),
            bearer_token_file: PathBuf::new(),
        };
        let daemon = Daemon::start_with(Setup {
            issuers: BTreeMap::from([("ci".to_owned(), issuer)]),
            ..Setup::default()
        })
        .await;
        let trust = json!({"Statement": {
            "Effect": "Allow",
            "Principal": {"Federated": format!("arn:aws:iam::111122223333:oidc-provider/{ISSUER}")},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringEquals": {format!("{ISSUER}:sub"): "job-1"}},
        }});
        let mint = json!({"Statement": {
            "Effect": "Allow", "Action": "kms:GenerateDataKeyWithoutPlaintext", "Resource": "*",
        }});
        let role = json!({
            "Name": "ci", "Kind": "role", "Policies": [mint.to_string()],
            "TrustPolicy": trust.to_string(),
        });
        let request = Request::post("/v1/admin/CreatePrincipal", "localhost", &role);
        let answer = daemon.over_unix().await.ask(&request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        Self {
            daemon,
            key: EncodingKey::from_ed_der(der.as_ref()),
            _folder: folder,
        }
    }

    fn token(&self, subject: &str) -> String {
        let now = NOW.unix_seconds();
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some("a".to_owned());
        let claims = json!({
            "iss": format!("https://{ISSUER}"), "sub": subject, "aud": "keymill",
            "iat": now, "exp": now + 300,
        });
        jsonwebtoken::encode(&header, &claims, &self.key).unwrap()
    }

    fn members(&self, token: &str) -> String {
        let role = utf8_percent_encode(ROLE, NON_ALPHANUMERIC);
        format!(
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn={role}\
             &RoleSessionName=run-7&WebIdentityToken={token}"
        )
    }

    /// A request without a signature, as SDKs send it.
    fn request(&self, token: &str) -> Request {
        let mut request = Request::post("/", &self.daemon.host(), &Value::Null).with(
            "content-type",
            "application/x-www-form-urlencoded; charset=utf-8",
        );
        request.body = self.members(token).into_bytes();
        request
    }
}

fn element<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let text = answer.text();
    let start = text.split_once(&format!("<{name}>"));
    let end = start.and_then(|(_, rest)| rest.split_once(&format!("</{name}>")));
    end.map_or("", |(inner, _)| inner)
}

fn refusal(answer: &Answer, status: u16, code: &str) -> String {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(element(answer, "Code"), code, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("text/xml"));
    element(answer, "Message").to_owned()
}

#[tokio::test]
async fn a_job_with_a_token_mints_with_the_credentials_of_a_role() {
    let federated = Federated::start().await;
    let daemon = &federated.daemon;
    let mut tcp = daemon.over_tcp().await;
    // Files of tokens end in a line feed, which clients send along.
    let token = federated.token("job-1") + "%0A";
    let answer = tcp.ask(&federated.request(&token)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.header("cache-control").unwrap().contains("no-store"));
    assert_eq!(element(&answer, "SubjectFromWebIdentityToken"), "job-1");
    let secret = element(&answer, "SecretAccessKey");
    let credentials = Credentials {
        access_key_id: element(&answer, "AccessKeyId").to_owned(),
        secret_access_key: SecretBytes::copy_of(secret.as_bytes()),
        session_token: Some(element(&answer, "SessionToken").to_owned()),
        region: REGION.to_owned(),
    };
    let mint = Request::mint(&daemon.host()).signed_with(&credentials, NOW);
    tcp.ask(&mint).await.done();
    daemon.clock.advance(Duration::from_secs(10));
    let ok = r#"keymill_web_identity_tokens_total{result="ok"}"#;
    assert_eq!(daemon.metric(ok), Some(1.0));
    // With everything in the query, and over the Unix socket, where the peer is not asked.
    let target = format!("/?{}", federated.members(&federated.token("job-1")));
    let get = Request::get(&target, &daemon.host());
    assert_eq!(tcp.ask(&get).await.status, 200);
    let mut unix = daemon.over_unix().await;
    let answer = unix.ask(&federated.request(&token)).await;
    assert_eq!(element(&answer, "SubjectFromWebIdentityToken"), "job-1");
    assert_eq!(daemon.metric(ok), Some(3.0));
}

#[tokio::test]
async fn auth_4_a_token_is_judged_by_itself_and_everything_else_by_its_signature() {
    let federated = Federated::start().await;
    let daemon = &federated.daemon;
    let mut tcp = daemon.over_tcp().await;
    let (good, other) = (federated.token("job-1"), federated.token("job-2"));
    // A signature beside a token means nothing, be it right or wrong.
    let signed = federated.request(&good).signed(&PROVISIONER);
    let mut wrong = federated.request(&good).signed(&PROVISIONER);
    wrong.header("authorization").push('0');
    let odd = federated.request(&good).with("authorization", "Bearer x");
    for request in [signed, wrong, odd] {
        assert_eq!(tcp.ask(&request).await.status, 200);
    }
    let refused = tcp
        .ask(&federated.request(&other).signed(&PROVISIONER))
        .await;
    let message = refusal(&refused, 403, "AccessDenied");
    assert_eq!(
        message,
        "Not authorized to perform sts:AssumeRoleWithWebIdentity"
    );
    let refused = tcp.ask(&federated.request("a.b.c")).await;
    let message = refusal(&refused, 400, "InvalidIdentityToken");
    assert!(!message.contains("a.b.c"), "{message}");
    let counted = r#"keymill_auth_failures_total{reason="InvalidIdentityToken"}"#;
    assert_eq!(daemon.metric(counted), Some(1.0));
    // Without a token, every other operation needs the usual credentials.
    for action in [
        "GetCallerIdentity",
        "AssumeRole",
        "AssumeRoleWithSAML",
        "Nonsense",
    ] {
        let mut request = federated.request(&good);
        let body = String::from_utf8(request.body).unwrap();
        request.body = body
            .replace("AssumeRoleWithWebIdentity", action)
            .into_bytes();
        let refused = tcp.ask(&request).await;
        let message = refusal(&refused, 403, "MissingAuthenticationToken");
        assert_eq!(message, "Request is missing Authentication Token");
    }
    // A form that says two things is not one of a token.
    let mut twice = federated.request(&good);
    twice.path = "/?Action=GetCallerIdentity".to_owned();
    refusal(&tcp.ask(&twice).await, 403, "MissingAuthenticationToken");
}

#[tokio::test]
async fn hold_5_a_form_of_a_stranger_is_read_within_bounds() {
    let federated = Federated::start().await;
    let daemon = &federated.daemon;
    let mut long = federated.request(&federated.token("job-1"));
    long.body.extend(std::iter::repeat_n(b'&', 64 * 1024));
    let refused = daemon.over_tcp().await.ask(&long).await;
    refusal(&refused, 403, "MissingAuthenticationToken");
    // Of a caller who is authenticated, it is read.
    let answer = daemon.over_unix().await.ask(&long).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn without_an_issuer_no_form_is_read_for_a_stranger() {
    let daemon = Daemon::start().await;
    let mut request = Request::post("/", &daemon.host(), &Value::Null)
        .with("content-type", "application/x-www-form-urlencoded");
    let members = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&WebIdentityToken=a.b.c";
    request.body = members.into();
    let refused = daemon.over_tcp().await.ask(&request).await;
    refusal(&refused, 403, "MissingAuthenticationToken");
}
