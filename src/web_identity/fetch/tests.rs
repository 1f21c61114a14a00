//! Fetches from issuers on this machine, over TLS and without, good or with one fault each.

use super::*;
use crate::tls_files::tests::Authority;
use crate::web_identity::algorithm::Algorithm;
use crate::web_identity::tests::{NOW, Signer, at, set_of};
use serde_json::json;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// An answer, by the path that was asked for and the server's own URL; bytes of HTTP.
type Answer = fn(&str, &str) -> Vec<u8>;

/// A server on a loopback address.
pub(crate) struct Server {
    pub(crate) url: String,
    /// The heads of the requests so far.
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn new(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&str, &str) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let mut tasks = JoinSet::new();
        let (heads, own) = (Arc::clone(&asked), url.clone());
        tasks.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let answer = |head: String| {
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    heads.lock().unwrap().push(head);
                    answer(&path, &own)
                };
                match &tls {
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, answer).await;
                        }
                    }
                    None => serve(stream, answer).await,
                }
            }
        });
        Self {
            url,
            asked,
            _tasks: tasks,
        }
    }

    fn heads(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: impl FnOnce(String) -> Vec<u8>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let answer = answer(String::from_utf8(head).unwrap());
    // An answer without bytes is one that never comes.
    if answer.is_empty() {
        std::future::pending::<()>().await;
    }
    stream.write_all(&answer).await.ok();
    stream.shutdown().await.ok();
}

pub(crate) fn ok(headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn config(url: &str) -> issuer::Config {
    issuer::Config {
        url: url.to_owned(),
        audiences: vec!["keymill".to_owned()],
        account: String::new(),
        jwks_file: PathBuf::new(),
        jwks_url: String::new(),
        ca_file: PathBuf::new(),
        bearer_token_file: PathBuf::new(),
    }
}

fn source(config: &issuer::Config) -> Source {
    Source::of(config, config.url.parse().unwrap(), Clock::manual(at(NOW)))
}

async fn refusal(config: &issuer::Config) -> String {
    match source(config).fetch().await {
        Ok(_) => "fetched".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// A discovery document of `issuer`, and the keys at `/keys`.
fn issuer_of(keys: Vec<u8>) -> impl Fn(&str, &str) -> Vec<u8> {
    move |path, own| match path {
        "/.well-known/openid-configuration" => {
            let document = json!({"issuer": own, "jwks_uri": format!("{own}/keys")});
            ok("", document.to_string())
        }
        "/keys" => ok("cache-control: public, max-age=600\r\n", &keys),
        _ => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
    }
}

fn keys() -> Vec<u8> {
    set_of(&[&Signer::new(Algorithm::EdDSA, "a")])
}

#[tokio::test]
async fn web_4_keys_are_where_the_issuer_says_over_tls_of_the_file_of_authorities() {
    let authority = Authority::new();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let tls = authority.server("127.0.0.1", version);
        let server = Server::new(Some(tls), issuer_of(keys())).await;
        let mut config = config(&server.url);
        config.ca_file = authority.path.clone();
        let fetched = source(&config)
            .fetch()
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            (fetched.keys.count(), fetched.fresh_for.as_secs()),
            (1, 600)
        );
        let paths: Vec<_> = server
            .heads()
            .iter()
            .map(|head| head.split("\r\n").next().unwrap().to_owned())
            .collect();
        let discovery = "GET /.well-known/openid-configuration HTTP/1.1";
        assert_eq!(paths, [discovery, "GET /keys HTTP/1.1"]);
    }
}

#[tokio::test]
async fn web_4_a_server_that_nobody_known_vouches_for_is_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    for (by, host) in [(&theirs, "127.0.0.1"), (&ours, "issuer.example")] {
        let tls = by.server(host, &rustls::version::TLS13);
        let server = Server::new(Some(tls), issuer_of(keys())).await;
        let mut config = config(&server.url);
        config.ca_file = ours.path.clone();
        let line = refusal(&config).await;
        assert!(line.contains("certificate"), "{line}");
        // The machine's own authorities do not help it either.
        config.ca_file = PathBuf::new();
        assert_ne!(refusal(&config).await, "fetched");
        assert_eq!(server.heads().len(), 0);
    }
}

#[tokio::test]
async fn web_4_an_answer_with_a_fault_is_no_answer() {
    let long: Answer = |_, _| ok("", vec![b' '; KeySet::BYTES_MAX + 1]);
    let without_end: Answer = |_, _| {
        let body = vec![b' '; 2 << 20];
        [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &body].concat()
    };
    let head: Answer = |_, _| {
        format!(
            "HTTP/1.1 200 OK\r\nx: {}\r\n\r\n",
            "x".repeat(4 * HEAD_BYTES_MAX)
        )
        .into_bytes()
    };
    let redirect: Answer = |_, own| {
        format!("HTTP/1.1 302 Found\r\nlocation: {own}/keys\r\ncontent-length: 0\r\n\r\n")
            .into_bytes()
    };
    let broken: Answer = |_, _| b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}".to_vec();
    let cases: [(Answer, &str); 11] = [
        (long, "length limit exceeded"),
        (without_end, "length limit exceeded"),
        (head, "message head is too large"),
        (redirect, "the answer has status 302; only 200 is taken"),
        (
            |_, _| b"HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n".to_vec(),
            "status 503",
        ),
        (|_, _| b"SSH-2.0-x\r\n".to_vec(), "invalid HTTP version"),
        (broken, "end of file before message length reached"),
        (
            |_, _| ok("", "<html>"),
            "it is not a JSON object with an array \"keys\"",
        ),
        (
            |_, _| ok("", "{\"keys\":[]}"),
            "it has no key that can verify a token",
        ),
        (
            |_, _| {
                ok(
                    "",
                    "{\"keys\":[{\"kty\":\"oct\",\"kid\":\"a\",\"k\":\"AAAA\"}]}",
                )
            },
            "it has no key",
        ),
        (
            |_, _| ok("", "{\"keys\":[],\"keys\":[]}"),
            "it is not a JSON object",
        ),
    ];
    for (answer, reason) in cases {
        let server = Server::new(None, answer).await;
        let mut config = config(&server.url);
        config.jwks_url = format!("{}/jwks", server.url);
        let line = refusal(&config).await;
        assert!(
            line.starts_with(&format!("{}/jwks: ", server.url)),
            "{line}"
        );
        assert!(line.contains(reason), "{line}");
        assert_eq!(server.heads().len(), 1, "{reason}");
    }
}

#[tokio::test]
async fn web_4_an_answer_that_does_not_come_is_not_waited_for() {
    let server = Server::new(None, |_, _| Vec::new()).await;
    let line = refusal(&config(&server.url)).await;
    assert!(line.ends_with("no answer within 5 seconds"), "{line}");
    // A port on which nothing listens.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let line = refusal(&config(&url)).await;
    assert!(line.contains("refused"), "{line}");
}

#[tokio::test]
async fn web_4_an_issuer_over_tls_names_no_keys_without_it() {
    let inner = Server::new(None, |_, _| ok("", keys())).await;
    let url = format!("{}/keys", inner.url);
    let authority = Authority::new();
    let tls = authority.server("127.0.0.1", &rustls::version::TLS13);
    let server = Server::new(Some(tls), move |_, own| {
        ok("", json!({"issuer": own, "jwks_uri": url}).to_string())
    })
    .await;
    let mut config = config(&server.url);
    config.ca_file = authority.path.clone();
    let line = refusal(&config).await;
    assert!(line.ends_with("its \"jwks_uri\" is not https"), "{line}");
    assert_eq!(inner.heads().len(), 0);
    // The operator may say so.
    config.jwks_url = format!("{}/keys", inner.url);
    assert_eq!(refusal(&config).await, "fetched");
}

#[tokio::test]
async fn web_4_a_document_of_another_issuer_is_refused() {
    for (document, reason) in [
        (
            json!({"issuer": "https://other.example", "jwks_uri": "https://a.example"}),
            "its \"issuer\" is another one",
        ),
        (
            json!({"jwks_uri": "https://a.example"}),
            "its \"issuer\" is another one",
        ),
        (
            json!({"issuer": "OWN/", "jwks_uri": "https://a.example"}),
            "its \"issuer\" is another one",
        ),
        (
            json!({"issuer": "OWN"}),
            "its \"jwks_uri\": allowed: https://",
        ),
        (
            json!({"issuer": "OWN", "jwks_uri": "http://a.example/keys"}),
            "its \"jwks_uri\": allowed: https://",
        ),
        (
            json!({"issuer": "OWN", "jwks_uri": "file:///etc/passwd"}),
            "its \"jwks_uri\": allowed: https://",
        ),
        (json!([]), "it is not a JSON object"),
    ] {
        let document = document.to_string();
        let server = Server::new(None, move |_, own| ok("", document.replace("OWN", own))).await;
        let line = refusal(&config(&server.url)).await;
        assert!(line.contains(reason), "{line}");
        assert_eq!(server.heads().len(), 1);
    }
}

#[tokio::test]
async fn web_4_a_bearer_token_goes_to_the_host_that_is_configured_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "secret-1\n").unwrap();
    let keys = keys();
    let elsewhere = Server::new(None, issuer_of(keys.clone())).await;
    let at = elsewhere.url.clone();
    let server = Server::new(None, move |path, own| match path {
        "/keys" => ok("", &keys),
        _ => ok(
            "",
            json!({"issuer": own, "jwks_uri": format!("{at}/keys")}).to_string(),
        ),
    })
    .await;
    let mut config = config(&server.url);
    config.bearer_token_file = file.clone();
    // The issuer sends the daemon elsewhere, where the token does not go.
    assert_eq!(refusal(&config).await, "fetched");
    assert!(server.heads()[0].contains("authorization: Bearer secret-1\r\n"));
    assert!(
        !elsewhere.heads()[0].contains("secret"),
        "{:?}",
        elsewhere.heads()
    );
    // The file is read again each time; where the keys are configured, the token goes there.
    std::fs::write(&file, "secret-2").unwrap();
    config.jwks_url = format!("{}/keys", server.url);
    assert_eq!(refusal(&config).await, "fetched");
    assert!(server.heads()[1].contains("authorization: Bearer secret-2\r\n"));
    // What is not a token is not sent, and not shown.
    std::fs::write(&file, "sec\nret").unwrap();
    let line = refusal(&config).await;
    assert_eq!(
        line,
        format!("{}: it is not a bearer token", file.display())
    );
    std::fs::remove_file(&file).unwrap();
    assert!(refusal(&config).await.contains("No such file"));
    assert_eq!(server.heads().len(), 2);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    let mut config = config("https://127.0.0.1:1");
    config.ca_file = file.clone();
    let place = file.display();
    assert!(
        refusal(&config)
            .await
            .starts_with(&format!("{place}: No such file"))
    );
    for text in ["", "a line"] {
        std::fs::write(&file, text).unwrap();
        let line = refusal(&config).await;
        assert_eq!(
            line,
            format!("{place}: it has no certificate of an authority")
        );
    }
    config.jwks_file = file.clone();
    let line = refusal(&config).await;
    assert!(
        line.starts_with(&format!("{place}: it is not a JSON object")),
        "{line}"
    );
    std::fs::write(&file, vec![b' '; KeySet::BYTES_MAX + 1]).unwrap();
    let line = refusal(&config).await;
    assert_eq!(line, format!("{place}: it has more than 1048576 bytes"));
    std::fs::write(&file, keys()).unwrap();
    let fetched = source(&config)
        .fetch()
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(fetched.fresh_for, FILE_INTERVAL);
}

#[test]
fn an_answer_is_used_as_long_as_it_says_within_bounds() {
    for (values, seconds) in [
        (&[][..], 300),
        (&["max-age=600"], 600),
        (&["public, Max-Age=\"600\", must-revalidate"], 600),
        (&["public", "max-age=600, max-age=700"], 600),
        (&["max-age=0"], 60),
        (&["max-age=86400"], 3600),
        (&["max-age=99999999999999999999"], 300),
        (&["max-age=x"], 300),
        (&["max-age"], 300),
        (&["max-age=600, no-store"], 60),
        (&["no-cache"], 60),
        (&["\u{e9}"], 300),
    ] {
        let mut head = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            head.append(CACHE_CONTROL, value);
        }
        assert_eq!(fresh_for(&head).as_secs(), seconds, "{values:?}");
    }
}

#[test]
fn the_files_of_an_issuer_are_checked() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let (keys, token) = (folder.path().join("keys"), folder.path().join("token"));
    std::fs::write(&keys, set_of(&[&Signer::new(Algorithm::ES256, "1")])).unwrap();
    let check = |keys: &Path, ca: &Path, bearer: &[u8]| {
        std::fs::write(&token, bearer).unwrap();
        let config = issuer::Config {
            url: "https://issuer.example".to_owned(),
            audiences: vec!["keymill".to_owned()],
            account: String::new(),
            jwks_file: keys.to_owned(),
            jwks_url: String::new(),
            ca_file: ca.to_owned(),
            bearer_token_file: token.clone(),
        };
        let checked = check_files("a", &config, &Clock::system());
        checked
            .err()
            .map_or(String::new(), |error| error.to_string())
    };
    let none = Path::new("");
    assert_eq!(check(&keys, &authority.path, b"a.b.c\n"), "");
    assert_eq!(check(none, none, b"a.b.c"), "");
    let told = check(&authority.path, &authority.path, b"a.b.c");
    assert!(
        told.ends_with("/ca.pem: it is not a JSON object with an array \"keys\""),
        "{told}"
    );
    let told = check(&keys, &keys, b"a.b.c");
    assert!(told.starts_with("issuers.a.ca_file: "), "{told}");
    for bearer in [&b""[..], b"\n", b"one\ntwo", b"a\x7fb", &[b'a'; 20_000]] {
        let told = check(none, none, bearer);
        assert!(told.starts_with("issuers.a.bearer_token_file: "), "{told}");
    }
}
