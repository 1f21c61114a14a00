//! The target of a request: its route, its operation, and the form of its answer. Pure; reads
//! neither body nor caller.

use crate::stream::MEDIA_TYPE;
use crate::stream::Purpose;
use crate::transport::tally::Outcome;
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, header};

/// The prefixes of `X-Amz-Target` (`targetPrefix` of each service model).
const KMS_PREFIX: &str = "TrentService.";
const TAGGING_PREFIX: &str = "ResourceGroupsTaggingAPI_20170126.";
/// The prefix of the paths of the operator's operations.
const ADMIN_PREFIX: &str = "/v1/admin/";

/// The destination of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// AWS KMS JSON 1.1; a header names the operation.
    Kms,
    /// A batch of data keys.
    DataKeys,
    /// A stream of containers.
    Containers(Purpose),
    /// An operator's call.
    Admin {
        /// The Region that the path names; without one, it is the home Region.
        region: Option<&'a str>,
        /// The operation.
        operation: &'a str,
    },
}

impl<'a> Route<'a> {
    /// The route of a method and a path.
    ///
    /// # Errors
    /// [`Outcome::NotFound`] or [`Outcome::MethodNotAllowed`].
    pub(super) fn of(method: &Method, path: &'a str) -> Result<Self, Outcome> {
        let route = match path {
            "/" => Self::Kms,
            crate::stream::data_keys::PATH => Self::DataKeys,
            path => match (purpose(path), path.strip_prefix(ADMIN_PREFIX)) {
                (Some(purpose), _) => Self::Containers(purpose),
                (None, Some(rest)) => match rest.split_once('/') {
                    Some((region, operation)) => Self::Admin {
                        region: Some(region),
                        operation,
                    },
                    None => Self::Admin {
                        region: None,
                        operation: rest,
                    },
                },
                (None, None) => return Err(Outcome::NotFound),
            },
        };
        if method == Method::POST {
            Ok(route)
        } else {
            Err(Outcome::MethodNotAllowed)
        }
    }
}

fn purpose(path: &str) -> Option<Purpose> {
    Purpose::ALL
        .into_iter()
        .find(|purpose| purpose.path() == path)
}

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");

/// The operation that `X-Amz-Target` names, by the service that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// Of AWS KMS.
    Kms(&'a str),
    /// Of the AWS Resource Groups Tagging API.
    Tagging(&'a str),
}

/// What `X-Amz-Target` names, if there is exactly one such field and its prefix is that of a
/// service.
pub(super) fn target(headers: &HeaderMap) -> Option<Target<'_>> {
    let mut values = headers.get_all(TARGET).iter();
    let (value, more) = (values.next()?, values.next());
    let text = std::str::from_utf8(value.as_bytes()).ok()?;
    if more.is_some() {
        return None;
    }
    let of_kms = text.strip_prefix(KMS_PREFIX).map(Target::Kms);
    of_kms.or_else(|| text.strip_prefix(TAGGING_PREFIX).map(Target::Tagging))
}

/// Whether a request is one of the query protocol, which AWS STS speaks: its operation is a member
/// of its form and not a header.
pub(super) fn is_query(head: &Parts) -> bool {
    const MEDIA_TYPE: &[u8] = b"application/x-www-form-urlencoded";
    if head.uri.path() != "/" || head.headers.contains_key(TARGET) {
        return false;
    }
    let media_type = head.headers.get(header::CONTENT_TYPE);
    let is_form = media_type.and_then(|value| value.as_bytes().get(..MEDIA_TYPE.len()));
    let is_post = head.method == Method::POST;
    let query = head.uri.query().unwrap_or_default();
    let names_action = query.split('&').any(|one| one.starts_with("Action="));
    names_action && (is_post || head.method == Method::GET)
        || is_post && is_form.is_some_and(|value| value.eq_ignore_ascii_case(MEDIA_TYPE))
}

/// The form of a batch's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `application/octet-stream`: blobs of one length, one after the other.
    Octets,
    /// `application/x-ndjson`: a JSON object a line.
    Lines,
    /// `application/vnd.apache.arrow.stream`: record batches.
    Arrow,
}

/// The media types of all forms, for the refusal of others.
pub(super) const FORMS: &str =
    "application/octet-stream, application/x-ndjson, application/vnd.apache.arrow.stream";

impl Form {
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Octets => "application/octet-stream",
            Self::Lines => "application/x-ndjson",
            Self::Arrow => MEDIA_TYPE,
        }
    }

    /// The form that `Accept` asks for (RFC 9110, section 12.5.1). Octets when the header is absent
    /// or leaves the choice.
    pub(super) fn accepted(headers: &HeaderMap) -> Option<Self> {
        // In the order of preference among types of equal weight.
        const ALL: [Form; 3] = [Form::Octets, Form::Lines, Form::Arrow];
        let mut wanted = ALL.map(|form| (Preference::default(), form));
        let mut absent = true;
        for value in headers.get_all(header::ACCEPT) {
            absent = false;
            for range in value.to_str().unwrap_or_default().split(',') {
                for (preference, form) in &mut wanted {
                    preference.weigh(range, form.media_type());
                }
            }
        }
        if absent {
            return Some(Self::Octets);
        }
        let wanted = wanted.map(|(preference, form)| (preference.order(), form));
        // The first of the types with the greatest weight.
        let most = wanted.iter().map(|(order, _)| *order).max()?;
        if most.0 == 0 {
            return None;
        }
        let mut best = wanted.into_iter().filter(|(order, _)| *order == most);
        best.next().map(|(_, form)| form)
    }
}

/// How much a client wants one media type: the weight of the most specific range that names it.
#[derive(Clone, Copy, Default)]
struct Preference {
    /// 0: no range, 1: `*/*`, 2: `application/*`, 3: the type itself.
    specificity: u8,
    /// Thousandths.
    weight: u16,
}

impl Preference {
    fn weigh(&mut self, range: &str, media_type: &str) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let specificity = match name.as_str() {
            "*/*" => 1,
            "application/*" => 2,
            name if name == media_type => 3,
            _ => return,
        };
        if specificity > self.specificity {
            let weight = parts.find_map(|part| {
                let (name, value) = part.split_once('=')?;
                (name.trim_end().eq_ignore_ascii_case("q")).then(|| thousandths(value.trim()))
            });
            *self = Self {
                specificity,
                weight: weight.unwrap_or(1000),
            };
        }
    }

    fn order(self) -> (u16, u8) {
        (self.weight, self.specificity)
    }
}

/// A weight such as `0.7`. A malformed one counts as a refusal.
fn thousandths(weight: &str) -> u16 {
    let (whole, fraction) = weight.split_once('.').unwrap_or((weight, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    match (whole, digits) {
        ("0", true) => format!("{fraction:0<3}").parse().unwrap_or(0),
        ("1", true) => 1000,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(name: &'static str, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn paths_are_exact_and_only_post_is_served() {
        let post = |path| Route::of(&Method::POST, path);
        assert_eq!(post("/"), Ok(Route::Kms));
        assert_eq!(post("/v1/data-keys"), Ok(Route::DataKeys));
        for (path, purpose) in [
            ("/v1/data-keys/bind", Purpose::Bind),
            ("/v1/data-keys/rewrap", Purpose::Rewrap),
            ("/v1/data-keys/verify", Purpose::Verify),
        ] {
            assert_eq!(post(path), Ok(Route::Containers(purpose)));
        }
        for (path, region, operation) in [
            ("/v1/admin/CreatePrincipal", None, "CreatePrincipal"),
            (
                "/v1/admin/us-west-2/ListKeys",
                Some("us-west-2"),
                "ListKeys",
            ),
            ("/v1/admin//ListKeys", Some(""), "ListKeys"),
            ("/v1/admin/us-west-2/a/b", Some("us-west-2"), "a/b"),
        ] {
            assert_eq!(post(path), Ok(Route::Admin { region, operation }));
        }
        for path in [
            "",
            "*",
            "//",
            "/x",
            "/v1",
            "/v1/data-keys/",
            "/v1/data-keysx",
            "/v1/data-keys/bind/",
            "/V1/data-keys",
            "/v1/admin",
            "/v1/%61dmin/CreatePrincipal",
        ] {
            assert_eq!(post(path), Err(Outcome::NotFound), "{path}");
        }
        for method in [Method::GET, Method::PUT, Method::HEAD, Method::OPTIONS] {
            for path in ["/", "/v1/data-keys", "/v1/data-keys/bind", "/v1/admin/x"] {
                assert_eq!(Route::of(&method, path), Err(Outcome::MethodNotAllowed));
            }
            assert_eq!(Route::of(&method, "/x"), Err(Outcome::NotFound));
        }
    }

    #[test]
    fn targets_have_the_prefix_of_a_service() {
        for (value, named) in [
            ("TrentService.Decrypt", Target::Kms("Decrypt")),
            ("TrentService.", Target::Kms("")),
            (
                "ResourceGroupsTaggingAPI_20170126.GetResources",
                Target::Tagging("GetResources"),
            ),
        ] {
            assert_eq!(target(&headers("x-amz-target", &[value])), Some(named));
        }
        let target = |values: &[&'static str]| {
            target(&headers("x-amz-target", values)).map(|target| format!("{target:?}"))
        };
        for values in [
            &[][..],
            &["Decrypt"],
            &["trentservice.Decrypt"],
            &["TrentService"],
            &["DynamoDB_20120810.GetItem"],
            &["ResourceGroupsTaggingAPI_20170127.GetResources"],
            &["TrentService.Decrypt", "TrentService.Encrypt"],
        ] {
            assert_eq!(target(values), None, "{values:?}");
        }
    }

    #[test]
    fn the_form_is_the_one_that_is_wanted_most() {
        let form = |values: &[&'static str]| Form::accepted(&headers("accept", values));
        let cases: [(Option<Form>, &[&[&'static str]]); 4] = [
            (
                Some(Form::Octets),
                &[
                    &[],
                    &["*/*"],
                    &["application/*"],
                    &["application/octet-stream"],
                    &["APPLICATION/Octet-Stream"],
                    &["application/octet-stream, application/x-ndjson"],
                    &["application/x-ndjson;q=0.5, */*"],
                    &["text/html", "application/octet-stream;q=0.1"],
                    &["application/x-ndjson; q=0, */*;q=0.1"],
                ],
            ),
            (
                Some(Form::Lines),
                &[
                    &["application/x-ndjson"],
                    &["application/x-ndjson;charset=utf-8"],
                    &["application/x-ndjson, */*"],
                    &["text/html, application/x-ndjson;q=0.9, */*;q=0.8"],
                    &["application/octet-stream;q=0.2", "application/x-ndjson"],
                    &["*/*, application/octet-stream;q=0"],
                ],
            ),
            (
                Some(Form::Arrow),
                &[
                    &["application/vnd.apache.arrow.stream"],
                    &["application/vnd.apache.arrow.stream, application/*;q=0.9"],
                ],
            ),
            (
                None,
                &[
                    &[""],
                    &["application/json"],
                    &["text/*"],
                    &["*/*;q=0"],
                    &["application/octet-stream;q=0.0"],
                    &["application/octet-stream;q=2"],
                    &["application/octet-stream;q=0.1234"],
                    &["application/vnd.apache.arrow.file"],
                ],
            ),
        ];
        for (expected, all) in cases {
            for values in all {
                assert_eq!(form(values), expected, "{values:?}");
            }
        }
    }
}
