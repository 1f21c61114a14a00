//! The HTTP client of an object store: that of its library in everything but two. It follows no
//! redirect to another place, because a request takes the session token along, and an answer could
//! name any host. And an upload of several chunks is completed on condition that no object has its
//! name (`If-None-Match: *`), which the library has no call for.

use http::header::IF_NONE_MATCH;
use http::{HeaderValue, Method, Uri};
use humantime::parse_duration;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions, Error};
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Certificate, Client, ClientBuilder, NoProxy, Proxy};
use std::pin::Pin;
use std::time::Duration;

/// What sets one time of a client.
type Set = fn(ClientBuilder, Duration) -> ClientBuilder;

/// Redirects of one request within the same place.
const REDIRECTS_MAX: usize = 5;

/// Makes clients that stay with the scheme, the host and the port of their first request.
#[derive(Debug)]
pub(super) struct SameHost;

impl HttpConnector for SameHost {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = client(options).map_err(|source| Error::Generic {
            store: "S3",
            source,
        })?;
        Ok(HttpClient::new(Conditional(client)))
    }
}

/// Completes uploads on condition. Objects whose names begin with `_` are written anew, as a job's
/// notes are; every other is there once.
#[derive(Debug)]
struct Conditional(Client);

impl HttpService for Conditional {
    fn call<'a, 'b>(
        &'a self,
        mut request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        if completes_once(request.method(), request.uri()) {
            let headers = request.headers_mut();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        self.0.call(request)
    }
}

/// Whether a request completes an upload of an object that is there once (CompleteMultipartUpload).
fn completes_once(method: &Method, uri: &Uri) -> bool {
    let mut query = uri.query().unwrap_or_default().split('&');
    let name = uri.path().rsplit('/').next().unwrap_or_default();
    *method == Method::POST
        && query.any(|pair| pair.starts_with("uploadId="))
        && !name.starts_with('_')
}

/// A client with what the environment sets (`AWS_TIMEOUT`, `AWS_PROXY_URL` and the like).
fn client(
    options: &ClientOptions,
) -> Result<Client, Box<dyn std::error::Error + Send + Sync + 'static>> {
    use ClientConfigKey as Key;
    let value = |key: Key| options.get_config_value(&key);
    let is_set = |key: Key| {
        let set = value(key).unwrap_or_default().to_ascii_lowercase();
        ["1", "true", "on", "yes", "y"].contains(&set.as_str())
    };
    let after = |key: Key| value(key).map(|text| parse_duration(&text)).transpose();
    let mut builder = Client::builder()
        .redirect(Policy::custom(stay))
        .user_agent(concat!("keymill/", env!("CARGO_PKG_VERSION")))
        // The length of an object is the length of the bytes that are sent.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .tls_danger_accept_invalid_certs(is_set(Key::AllowInvalidCertificates))
        .https_only(!is_set(Key::AllowHttp));
    let times: [(Option<Duration>, Set); 4] = [
        (after(Key::Timeout)?, ClientBuilder::timeout),
        (after(Key::ConnectTimeout)?, ClientBuilder::connect_timeout),
        (after(Key::ReadTimeout)?, ClientBuilder::read_timeout),
        (after(Key::PoolIdleTimeout)?, |builder, time| {
            builder.pool_idle_timeout(time)
        }),
    ];
    for (time, set) in times {
        if let Some(time) = time {
            builder = set(builder, time);
        }
    }
    if is_set(Key::NoSystemCertificates) {
        builder = builder.tls_certs_only([]);
    }
    if let Some(url) = value(Key::ProxyUrl) {
        let excluded = value(Key::ProxyExcludes).and_then(|hosts| NoProxy::from_string(&hosts));
        builder = builder.proxy(Proxy::all(url)?.no_proxy(excluded));
        if let Some(certificate) = value(Key::ProxyCaCertificate) {
            let certificate = Certificate::from_pem(certificate.as_bytes())?;
            builder = builder.tls_certs_merge([certificate]);
        }
    }
    Ok(builder.build()?)
}

/// A redirect that is not followed becomes the answer, and the caller makes it an error.
fn stay(attempt: Attempt<'_>) -> Action {
    let place = |url: &reqwest::Url| {
        let host = url.host_str().unwrap_or_default().to_owned();
        (url.scheme().to_owned(), host, url.port_or_known_default())
    };
    let (next, previous) = (place(attempt.url()), attempt.previous());
    let stays = previous.iter().all(|url| place(url) == next);
    if stays && previous.len() <= REDIRECTS_MAX {
        return attempt.follow();
    }
    let (scheme, host, _) = next;
    tracing::warn!(
        to = format!("{scheme}://{host}"),
        "an object store redirects to another place, which is not followed: name the bucket's own region in AWS_REGION, or its endpoint in AWS_ENDPOINT_URL_S3"
    );
    attempt.stop()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc;

    /// Answers each connection with `answer`, and sends the head of each request to the receiver.
    fn server(answer: impl Fn(&str) -> String + Send + 'static) -> (u16, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, heads) = mpsc::channel();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection: TcpStream = connection.unwrap();
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && connection.read(&mut byte).unwrap() > 0 {
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).unwrap();
                connection.write_all(answer(&head).as_bytes()).unwrap();
                if sender.send(head).is_err() {
                    return;
                }
            }
        });
        (port, heads)
    }

    fn moved(to: &str) -> String {
        format!(
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )
    }

    const FOUND: &str = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\netag: \"x\"\r\n\
        last-modified: Tue, 14 Nov 2023 22:13:20 GMT\r\nconnection: close\r\n\r\n";

    fn head(port: u16) -> object_store::Result<object_store::ObjectMeta> {
        use object_store::ObjectStoreExt;
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(store(port)?.head(&"part.csv".into()))
    }

    fn store(port: u16) -> object_store::Result<object_store::aws::AmazonS3> {
        object_store::aws::AmazonS3Builder::new()
            .with_bucket_name("lake")
            .with_region("us-east-1")
            .with_endpoint(format!("http://127.0.0.1:{port}"))
            .with_access_key_id("id")
            .with_secret_access_key("secret")
            .with_token("the-session-token")
            .with_allow_http(true)
            .with_http_connector(SameHost)
            .build()
    }

    /// Without it, of two jobs that write one part, the later one would replace it.
    #[test]
    fn an_upload_is_completed_unless_its_name_is_taken() {
        use object_store::multipart::{MultipartStore, PartId};
        let refused = "HTTP/1.1 412 Precondition Failed\r\ncontent-length: 0\r\n\
            connection: close\r\n\r\n";
        let (port, asked) = server(move |_| refused.to_owned());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (store, id) = (store(port).unwrap(), "an-upload".to_owned());
        for (name, is_conditional) in [
            ("out/part-00000.parquet", true),
            ("out/_input", false),
            ("_out/a=1/part-00000.parquet", true),
        ] {
            let parts = vec![PartId {
                content_id: "x".to_owned(),
            }];
            let key = name.into();
            let completed = runtime.block_on(store.complete_multipart(&key, &id, parts));
            assert!(completed.is_err());
            let head = asked.recv().unwrap();
            assert!(head.contains("uploadId=an-upload"), "{head}");
            let has_condition = head.to_ascii_lowercase().contains("if-none-match: *\r\n");
            assert_eq!(has_condition, is_conditional, "{head}");
        }
        // What begins or goes on with an upload has no condition.
        let put = runtime.block_on(store.put_part(&"x".into(), &id, 0, "y".into()));
        assert!(put.is_err());
        assert!(
            !asked
                .recv()
                .unwrap()
                .to_ascii_lowercase()
                .contains("if-none-match")
        );
    }

    /// Without the fix the other server gets the session token.
    #[test]
    fn folder_5_a_redirect_to_another_place_is_not_followed() {
        let (elsewhere, heads) = server(|_| FOUND.to_owned());
        for to in [
            format!("http://127.0.0.1:{elsewhere}/lake/part.csv"),
            format!("http://localhost:{elsewhere}/lake/part.csv"),
        ] {
            let (port, asked) = server(move |_| moved(&to));
            assert!(head(port).is_err());
            assert!(asked.recv().unwrap().contains("the-session-token"));
        }
        assert!(heads.try_recv().is_err(), "another place was asked");
    }

    #[test]
    fn a_redirect_within_the_same_place_is_followed_a_few_times() {
        let (port, _asked) = server(|head| {
            if head.starts_with("HEAD /lake/part.csv ") {
                moved("/lake/other.csv")
            } else {
                FOUND.to_owned()
            }
        });
        assert_eq!(head(port).unwrap().size, 7);
        let (port, asked) = server(|_| moved("/lake/again.csv"));
        assert!(head(port).is_err());
        assert!(asked.try_iter().count() <= REDIRECTS_MAX + 1);
    }

    #[test]
    fn settings_of_the_environment_are_those_of_the_client() {
        let refused = |options: ClientOptions| client(&options).err().unwrap().to_string();
        let options = ClientOptions::new();
        assert!(client(&options).is_ok());
        let bad = ClientOptions::new().with_config(ClientConfigKey::Timeout, "soon");
        assert!(!refused(bad).is_empty());
        let bad = ClientOptions::new().with_proxy_url("\0");
        assert!(!refused(bad).is_empty());
    }
}
