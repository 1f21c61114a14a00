//! Log lines about callers that could not be authenticated. They have no audit record, because
//! strangers could fill the disk with records, so the log is where an operator looks for them. The
//! lines are bounded by kind, and metrics count every such request.

use crate::api::{ApiError, ErrorCode, RequestId};
use crate::rates::LogLines;
use crate::transport::caller::Caller;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Uri};

/// The most characters that are shown of a claimed identity or of a reason: both repeat the
/// caller's text.
const SHOWN_CHARACTERS_MAX: usize = 160;

/// The lines of each reason are bounded apart, so that malformed requests do not hide a wrong
/// secret.
static LINES: [LogLines; ErrorCode::ALL.len()] = [const { LogLines::new() }; ErrorCode::ALL.len()];

/// Logs a caller that could not be authenticated.
pub(super) fn tell(
    id: RequestId,
    caller: &Caller,
    uri: &Uri,
    headers: &HeaderMap,
    error: &ApiError,
) {
    let code = error.code();
    let claimed = access_key_id(headers).or_else(|| access_key_id_in(uri));
    let Some(left_out) = LINES[code as usize].admit() else {
        return;
    };
    // The message repeats a header that could not be parsed, with a signature that may be valid.
    let reason = match code {
        ErrorCode::IncompleteSignatureException => "",
        _ => error.message(),
    };
    // Written as a literal: control characters and line feeds are escaped.
    tracing::warn!(
        request_id = %id,
        code = code.name(),
        access_key_id = ?cut(claimed.unwrap_or_default()),
        source = %caller.source,
        uid = caller.uid,
        reason = ?cut(reason),
        left_out,
        "a caller could not be authenticated"
    );
}

/// The access key that a header names.
fn access_key_id(headers: &HeaderMap) -> Option<&str> {
    let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (_, credential) = header.split_once("Credential=")?;
    credential.split(['/', ',', ' ']).next()
}

/// The access key that a query names.
fn access_key_id_in(uri: &Uri) -> Option<&str> {
    let mut parameters = uri.query()?.split('&');
    let credential = parameters.find_map(|one| one.strip_prefix("X-Amz-Credential="))?;
    credential.split(['/', '%']).next()
}

fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(SHOWN_CHARACTERS_MAX);
    end.map_or(text, |(at, _)| &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::entropy::Entropy;
    use http::HeaderValue;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn told(authorization: &str, error: &ApiError, times: usize) -> (RequestId, String) {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_bytes(authorization.as_bytes()).unwrap();
        headers.insert(AUTHORIZATION, value);
        told_of(&Uri::from_static("/"), &headers, error, times)
    }

    fn told_of(
        uri: &Uri,
        headers: &HeaderMap,
        error: &ApiError,
        times: usize,
    ) -> (RequestId, String) {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let id = RequestId::draw(&Entropy::os());
        let caller = Caller::over_tcp("192.0.2.7:443".parse().unwrap());
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..times {
                tell(id, &caller, uri, headers, error);
            }
        });
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        (id, text)
    }

    #[test]
    fn auth_5_a_refused_caller_can_be_traced() {
        let authorization = "AWS4-HMAC-SHA256 Credential=AKIA\tB/20260115/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=00";
        let error = ApiError::new(ErrorCode::InvalidSignatureException, "does not match\nx");
        let (id, text) = told(authorization, &error, 1);
        for part in [
            id.as_str(),
            "InvalidSignatureException",
            r#"access_key_id="AKIA\tB""#,
            "source=192.0.2.7:443",
            r#"reason="does not match\nx""#,
            "left_out=0",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert_eq!(text.lines().count(), 1, "{text}");
        // A reason that repeats the header does not show the signature.
        let error = ApiError::new(
            ErrorCode::IncompleteSignatureException,
            authorization.to_owned(),
        );
        let (_, text) = told(authorization, &error, 1);
        assert!(!text.contains("Signature=00"), "{text}");
    }

    #[test]
    fn auth_5_a_refused_url_can_be_traced() {
        let uri = Uri::from_static(
            "/?Action=GetCallerIdentity&X-Amz-Credential=ASIAB%2F20260115%2Fus-east-1%2Fsts\
             %2Faws4_request&X-Amz-Security-Token=secret&X-Amz-Signature=00",
        );
        let error = ApiError::new(ErrorCode::UnrecognizedClientException, "unknown");
        let (_, text) = told_of(&uri, &HeaderMap::new(), &error, 1);
        assert!(text.contains(r#"access_key_id="ASIAB""#), "{text}");
        assert!(
            !text.contains("secret") && !text.contains("Signature"),
            "{text}"
        );
    }

    #[test]
    fn auth_5_lines_about_refused_callers_are_bounded() {
        let error = ApiError::new(ErrorCode::ExpiredTokenException, "x".repeat(100_000));
        let (_, text) = told(&"Credential=".repeat(2000), &error, 1000);
        assert_eq!(text.lines().count(), 20);
        assert!(text.len() < 20 * 600, "{}", text.len());
    }
}
