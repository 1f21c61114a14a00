//! Parses the `Authorization` header.

use crate::auth::AuthError;
use crate::auth::time::RequestTime;
use memchr::memchr;

/// The parts of `AWS4-HMAC-SHA256 Credential=<id>/<date>/<region>/<service>/<terminator>,
/// SignedHeaders=<a;b;c>, Signature=<hex>`, in any order and not verified, with the time of the
/// request. Parameters with other names are ignored: nothing depends on them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authorization<'a> {
    pub(super) access_key_id: &'a str,
    pub(super) date: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    pub(super) terminator: &'a str,
    pub(super) signed_headers: &'a str,
    pub(super) signature: &'a str,
    pub(super) time: RequestTime,
}

pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";

impl<'a> Authorization<'a> {
    /// Parses the header. `time` is the result of [`RequestTime::of_request`]: AWS reports all
    /// missing parts at once, and the time is one of them.
    pub(super) fn parse(
        header: &'a str,
        time: Option<Result<RequestTime, AuthError>>,
    ) -> Result<Self, AuthError> {
        const NAMES: [&str; 3] = ["Credential", "Signature", "SignedHeaders"];
        let (algorithm, parameters) = split_once(header, b' ').unwrap_or((header, ""));
        let mut rest = Some(parameters.trim_matches(' ')).filter(|all| !all.is_empty());
        let mut values = [None; 3];
        // Not authenticated yet: each piece is read once, and nothing is collected.
        while let Some(parts) = rest {
            let (part, after) = match split_once(parts, b',') {
                Some((part, after)) => (part, Some(after)),
                None => (parts, None),
            };
            rest = after;
            let part = part.trim_matches(' ');
            let Some((name, value)) = split_once(part, b'=') else {
                return Err(AuthError::no_pair(part, header));
            };
            if let Some(at) = NAMES.iter().position(|known| *known == name)
                && values[at].replace(value).is_some()
            {
                return Err(AuthError::duplicate_parameter(name, header));
            }
        }
        let dated = time.is_some();
        // The order of the refusals is AWS's: missing parts, then the time, the algorithm, the
        // scope.
        let ([Some(credential), Some(signature), Some(signed_headers)], Some(time)) =
            (values, time)
        else {
            return Err(missing(NAMES, values, dated, header));
        };
        Self::of_parts(algorithm, credential, signed_headers, signature, time?)
    }

    /// The parts of a signature, wherever the request has them: in a header, or in its query.
    pub(super) fn of_parts(
        algorithm: &str,
        credential: &'a str,
        signed_headers: &'a str,
        signature: &'a str,
        time: RequestTime,
    ) -> Result<Self, AuthError> {
        if algorithm != ALGORITHM {
            return Err(AuthError::bad_algorithm(algorithm));
        }
        let mut rest = Some(credential);
        let mut element = || {
            let (element, after) = match split_once(rest?, b'/') {
                Some((element, after)) => (element, Some(after)),
                None => (rest?, None),
            };
            rest = after;
            Some(element)
        };
        let five = (
            element(),
            element(),
            element(),
            element(),
            element(),
            element(),
        );
        let (Some(access_key_id), Some(date), Some(region), Some(service), Some(terminator), None) =
            five
        else {
            return Err(AuthError::bad_credential(credential));
        };
        Ok(Self {
            access_key_id,
            date,
            region,
            service,
            terminator,
            signed_headers,
            signature,
            time,
        })
    }
}

/// Does what [`str::split_once`] does. Authorization headers are short, and a byte is searched for
/// directly; see the row "SigV4 verification" of benches/RESULTS.md.
fn split_once(text: &str, ascii: u8) -> Option<(&str, &str)> {
    let at = memchr(ascii, text.as_bytes())?;
    Some((&text[..at], &text[at + 1..]))
}

fn missing(names: [&str; 3], values: [Option<&str>; 3], dated: bool, header: &str) -> AuthError {
    let mut sentences = String::new();
    for (name, value) in names.into_iter().zip(values) {
        if value.is_none() {
            sentences += &format!("Authorization header requires '{name}' parameter. ");
        }
    }
    if !dated {
        sentences +=
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ";
    }
    AuthError::missing_parameters(&sentences, header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::error_code::ErrorCode;

    fn time() -> RequestTime {
        RequestTime::at(Timestamp(0))
    }

    fn refusal(header: &str, dated: bool) -> String {
        let time = dated.then(|| Ok(time()));
        let error = Authorization::parse(header, time).unwrap_err();
        assert_eq!(error.code, ErrorCode::IncompleteSignatureException);
        error.message.into_owned()
    }

    #[test]
    fn parts_come_in_any_order_with_or_without_spaces() {
        let expected = Authorization {
            access_key_id: "AKID",
            date: "20260115",
            region: "us-east-1",
            service: "kms",
            terminator: "aws4_request",
            signed_headers: "host;x-amz-date",
            signature: "00ff",
            time: time(),
        };
        for header in [
            "AWS4-HMAC-SHA256 Credential=AKID/20260115/us-east-1/kms/aws4_request, SignedHeaders=host;x-amz-date, Signature=00ff",
            "AWS4-HMAC-SHA256 Credential=AKID/20260115/us-east-1/kms/aws4_request,SignedHeaders=host;x-amz-date,Signature=00ff",
            "AWS4-HMAC-SHA256   Signature=00ff ,   New=x=y, SignedHeaders=host;x-amz-date,Credential=AKID/20260115/us-east-1/kms/aws4_request",
        ] {
            assert_eq!(
                Authorization::parse(header, Some(Ok(time()))).as_ref(),
                Ok(&expected)
            );
        }
    }

    #[test]
    fn what_is_no_pair_is_named() {
        let cases = [
            ("Bearer token", "token"),
            ("AWS4-HMAC-SHA256 Credential", "Credential"),
            ("AWS4-HMAC-SHA256 Credential=a,, Signature=b", ""),
            ("AWS4-HMAC-SHA256 Credential=a, Signature=b,", ""),
            ("AWS AKID:c2ln", "AKID:c2ln"),
        ];
        for (header, part) in cases {
            assert_eq!(
                refusal(header, true),
                format!(
                    "'{part}' not a valid key=value pair (missing equal-sign) in Authorization header: '{header}'."
                )
            );
        }
    }

    #[test]
    fn everything_missing_is_told_at_once() {
        let (credential, signature, signed, date) = (
            "Authorization header requires 'Credential' parameter. ",
            "Authorization header requires 'Signature' parameter. ",
            "Authorization header requires 'SignedHeaders' parameter. ",
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ",
        );
        let all = "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=0";
        let cases = [
            ("", false, [credential, signature, signed, date].concat()),
            ("", true, [credential, signature, signed].concat()),
            (
                "AWS4-HMAC-SHA256",
                true,
                [credential, signature, signed].concat(),
            ),
            (
                "AWS4-HMAC-SHA256 ",
                true,
                [credential, signature, signed].concat(),
            ),
            (
                "Basic dXNlcjpwYXM=",
                true,
                [credential, signature, signed].concat(),
            ),
            (
                "AWS4-HMAC-SHA256 Credential=a, Signature=b",
                true,
                signed.to_owned(),
            ),
            (
                "AWS4-HMAC-SHA256 credential=a, Signature=b, SignedHeaders=c",
                true,
                credential.to_owned(),
            ),
            (
                "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=b",
                false,
                [signature, date].concat(),
            ),
            (all, false, date.to_owned()),
        ];
        for (header, dated, sentences) in cases {
            assert_eq!(
                refusal(header, dated),
                format!("{sentences}Authorization={header}")
            );
        }
    }

    #[test]
    fn a_time_that_is_none_is_told_after_what_is_missing() {
        let bad = || Some(Err(AuthError::bad_date("now")));
        let missing = Authorization::parse("AWS4-HMAC-SHA256 Signature=0", bad()).unwrap_err();
        assert!(missing.message.starts_with("Authorization header requires"));
        let whole = "AWS5 Credential=a, SignedHeaders=host, Signature=0";
        let refused = Authorization::parse(whole, bad());
        assert_eq!(refused, Err(AuthError::bad_date("now")));
    }

    #[test]
    fn other_algorithms_duplicates_and_broken_credentials_are_refused() {
        let cases = [
            (
                "AWS4-ECDSA-P256-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=0",
                "Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256' (only AWS4-HMAC-SHA256 for now). ",
            ),
            (
                "AWS4-HMAC-SHA256 Credential=a/b/c/d, SignedHeaders=host, Signature=0",
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got 'a/b/c/d'",
            ),
            (
                "AWS4-HMAC-SHA256 Credential=a/b/c/d/e/f, SignedHeaders=host, Signature=0",
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got 'a/b/c/d/e/f'",
            ),
            (
                "AWS4-HMAC-SHA256 Signature=0, Signature=0",
                "Authorization header has more than one 'Signature' parameter. \
                 Authorization=AWS4-HMAC-SHA256 Signature=0, Signature=0",
            ),
        ];
        for (header, message) in cases {
            assert_eq!(refusal(header, true), message);
        }
    }

    #[test]
    fn messages_repeat_a_bounded_part_of_the_header() {
        let header = format!("Bearer {}", "é".repeat(100_000));
        let message = refusal(&header, true);
        assert!(message.chars().count() < 2 * AuthError::ECHO_CHARACTERS_MAX + 100);
        let header = format!("AWS4-HMAC-SHA256 Credential={}", "x".repeat(100_000));
        assert!(refusal(&header, true).len() < AuthError::ECHO_CHARACTERS_MAX + 300);
    }
}
