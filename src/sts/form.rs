//! The form of a query request: `Action=AssumeRole&Version=2011-06-15&Tags.member.1.Key=…`.
//!
//! Members may come in the query of the target, in the body, or in both. Lists are written out:
//! `Tags.member.1.Key`; an empty list is `Tags=`.

use crate::api::{ApiError, ErrorCode};
use percent_encoding::percent_decode;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::mem;
use zeroize::{Zeroize, Zeroizing};

/// A parsed form: members by their names, each once. It may have a token, so it cannot be printed,
/// and its values are wiped.
#[derive(Default)]
pub struct Form {
    members: BTreeMap<String, Zeroizing<String>>,
}

/// The elements of a list, by their numbers.
pub(super) type Elements<'a> = BTreeMap<u32, BTreeMap<&'a str, &'a str>>;

impl Form {
    /// The most bytes of a form: a token of 20,000 characters, a policy, 50 tags, percent-encoded.
    pub const BYTES_MAX: usize = 128 * 1024;
    /// The most members: 50 tags of two, 50 names of transitive tags, 10 policies, and the rest.
    pub const MEMBERS_MAX: usize = 256;

    /// Parses the members of a target's query and of a body.
    ///
    /// # Errors
    /// `ValidationException`, which STS spells `ValidationError`: too long, too many members, a
    /// percent sign without two hex digits, bytes that are not UTF-8, a member that is there twice,
    /// or an element of a list without a number of its own.
    pub fn parse(query: &str, body: &[u8]) -> Result<Self, ApiError> {
        if query.len() + body.len() > Self::BYTES_MAX {
            let max = Self::BYTES_MAX;
            return Err(invalid(format!("A request has at most {max} bytes.")));
        }
        let pieces = [query.as_bytes(), body].into_iter();
        let pieces = pieces.flat_map(|part| part.split(|byte| *byte == b'&'));
        let mut members = BTreeMap::new();
        for piece in pieces.filter(|piece| !piece.is_empty()) {
            let mut halves = piece.splitn(2, |byte| *byte == b'=');
            let name = mem::take(&mut *decoded(halves.next().unwrap_or_default())?);
            let value = decoded(halves.next().unwrap_or_default())?;
            if members.len() == Self::MEMBERS_MAX {
                let max = Self::MEMBERS_MAX;
                return Err(invalid(format!("A request has at most {max} members.")));
            }
            if !is_numbered(&name) {
                let must = "the elements of a list are numbered 1, 2 and so on";
                return Err(invalid(format!("{name:?} is not a member: {must}.")));
            }
            if let Some(name) = members.insert(name.clone(), value).map(|_| name) {
                return Err(invalid(format!("{name:?} is in the request twice.")));
            }
        }
        Ok(Self { members })
    }

    /// A member that is a text; `None` if it is absent.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name).map(|value| value.as_str())
    }

    /// Whether a member of this name is there, or anything within one, and is not an empty text or
    /// list. Case is ignored: a member that would narrow the session is not to be passed over.
    pub(super) fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(member, value)| {
            let outer = member.split('.').next().unwrap_or_default();
            let is_within = outer.len() < member.len();
            outer.eq_ignore_ascii_case(name) && (is_within || !value.is_empty())
        })
    }

    /// The elements of a list of structures, or of texts, whose one member is called "". In the
    /// order of their numbers; numbers may be left out.
    pub(super) fn list(&self, name: &str) -> Elements<'_> {
        let mut elements = Elements::new();
        for (member, value) in &self.members {
            let of_list = member.strip_prefix(name);
            let Some(rest) = of_list.and_then(|rest| rest.strip_prefix(".member.")) else {
                continue;
            };
            let (number, member) = rest.split_once('.').unwrap_or((rest, ""));
            if let Ok(number) = number.parse() {
                elements.entry(number).or_default().insert(member, value);
            }
        }
        elements
    }

    /// The members of these names as JSON, for the audit log: lists as arrays, members of
    /// structures in lowerCamelCase. Of other members, of which some are secret, no copy is made.
    pub(super) fn to_json(&self, names: &[&str]) -> Vec<u8> {
        let mut object = Map::new();
        for (member, value) in &self.members {
            let name = member.split('.').next().unwrap_or_default();
            if object.contains_key(name) || !names.contains(&name) {
                continue;
            }
            let list = self.list(name);
            let value = if list.is_empty() {
                Value::from(value.as_str())
            } else {
                list.into_values().map(element).collect()
            };
            object.insert(name.to_owned(), value);
        }
        Value::from(object).to_string().into_bytes()
    }
}

/// Whether the number of an element of a list, if it is one, has one spelling: `Tags.member.1.Key`
/// and `Tags.member.01.Key` would be one member twice.
fn is_numbered(member: &str) -> bool {
    let Some((_, rest)) = member.split_once(".member.") else {
        return true;
    };
    let number = rest.split('.').next().unwrap_or_default();
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0');
    is_plain && number.parse::<u32>().is_ok()
}

fn element(members: BTreeMap<&str, &str>) -> Value {
    if let Some(text) = members.get("") {
        return Value::from(*text);
    }
    let mut object = Map::new();
    for (name, value) in members {
        let mut name = name.to_owned();
        if let Some(first) = name.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        object.insert(name, Value::from(value));
    }
    object.into()
}

/// Decodes a name or a value (WHATWG URL, "application/x-www-form-urlencoded parsing"), but refuses
/// what that parser would repair: it decides about rights. No copy is left behind.
fn decoded(text: &[u8]) -> Result<Zeroizing<String>, ApiError> {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'%', rest) {
        let digits = rest.get(at + 1..at + 3);
        if !digits.is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)) {
            return Err(invalid("A % must be followed by two hex digits."));
        }
        rest = &rest[at + 3..];
    }
    let mut spaced = Zeroizing::new(text.to_vec());
    for byte in spaced.iter_mut().filter(|byte| **byte == b'+') {
        *byte = b' ';
    }
    // Decoding makes nothing longer, so this never grows.
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    bytes.extend(percent_decode(&spaced));
    match String::from_utf8(mem::take(&mut *bytes)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            error.into_bytes().zeroize();
            Err(invalid("Names and values must be UTF-8."))
        }
    }
}

pub(super) fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::new(ErrorCode::ValidationException, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::ZeroizeOnDrop;

    fn form(body: &str) -> Form {
        Form::parse("", body.as_bytes()).unwrap()
    }

    #[test]
    fn members_are_decoded() {
        let form = form("Action=GetCallerIdentity&Version=2011-06-15&a=x+y%2Bz%25%C3%A9&b&c=");
        assert_eq!(form.text("Action"), Some("GetCallerIdentity"));
        assert_eq!(form.text("a"), Some("x y+z%é"));
        assert_eq!((form.text("b"), form.text("c")), (Some(""), Some("")));
        assert_eq!(form.text("d"), None);
    }

    #[test]
    fn web_1_a_token_is_wiped_with_its_form() {
        fn is_wiped(_: &impl ZeroizeOnDrop) {}
        let form = form("WebIdentityToken=eyJ.eyJ%2Be30.c2ln");
        is_wiped(&form.members["WebIdentityToken"]);
        assert_eq!(form.text("WebIdentityToken"), Some("eyJ.eyJ+e30.c2ln"));
        is_wiped(&decoded(b"eyJ").unwrap());
    }

    #[test]
    fn query_and_body_are_one_form() {
        let both = Form::parse("Action=a&x=1", b"y=2").unwrap();
        assert_eq!((both.text("x"), both.text("y")), (Some("1"), Some("2")));
        assert!(Form::parse("x=1", b"x=1").is_err());
    }

    #[test]
    fn lists_are_in_the_order_of_their_numbers() {
        let form = form(
            "Tags.member.10.Key=j&Tags.member.10.Value=&Tags.member.2.Key=b&Tags.member.2.Value=2\
             &TransitiveTagKeys.member.1=b&PolicyArns=&Tagsx.member.1=no&WebIdentityToken=eyJ",
        );
        let keys: Vec<_> = form.list("Tags").values().map(|tag| tag["Key"]).collect();
        assert_eq!(keys, ["b", "j"]);
        assert_eq!(form.list("TransitiveTagKeys")[&1][""], "b");
        assert!(form.list("PolicyArns").is_empty());
        let json = form.to_json(&["Tags", "TransitiveTagKeys"]);
        let json: Value = serde_json::from_slice(&json).unwrap();
        let tags = serde_json::json!([{"key": "b", "value": "2"}, {"key": "j", "value": ""}]);
        let expected = serde_json::json!({"Tags": tags, "TransitiveTagKeys": ["b"]});
        assert_eq!(json, expected);
    }

    #[test]
    fn a_member_is_there_however_it_is_spelt() {
        for (body, has) in [
            ("PolicyArns=&Policy=x", false),
            ("PolicyArns=x", true),
            ("PolicyArns.member.7.arn=x", true),
            ("PolicyArns.1.arn=x", true),
            ("policyArns.member.1.arn=x", true),
        ] {
            assert_eq!(form(body).has("PolicyArns"), has, "{body}");
        }
    }

    #[test]
    fn what_would_have_to_be_repaired_is_refused() {
        for (body, message) in [
            ("a=%", "A % must be followed by two hex digits."),
            ("a=%4", "A % must be followed by two hex digits."),
            ("a=%4g", "A % must be followed by two hex digits."),
            ("%zz=1", "A % must be followed by two hex digits."),
            ("a=%FF", "Names and values must be UTF-8."),
            ("a=1&b=2&a=1", "\"a\" is in the request twice."),
            (
                "a.member.x=1",
                "\"a.member.x\" is not a member: the elements of a list are numbered 1, 2 and so on.",
            ),
            (
                "a.member.1=1&a.member.01=2",
                "\"a.member.01\" is not a member: the elements of a list are numbered 1, 2 and so on.",
            ),
            (
                "a.member.+1=2",
                "\"a.member. 1\" is not a member: the elements of a list are numbered 1, 2 and so on.",
            ),
            (
                "a.member.4294967296=2",
                "\"a.member.4294967296\" is not a member: the elements of a list are numbered 1, 2 and so on.",
            ),
        ] {
            let error = Form::parse("", body.as_bytes()).err().unwrap();
            assert_eq!(error.message(), message, "{body}");
            assert_eq!(error.code(), ErrorCode::ValidationException);
        }
    }

    #[test]
    fn hold_1_a_form_is_bounded() {
        let long = vec![b'a'; Form::BYTES_MAX + 1];
        assert!(Form::parse("", &long).is_err());
        assert!(Form::parse("", &long[1..]).is_ok());
        let many = |count: usize| -> String { (0..count).map(|at| format!("m{at}=&")).collect() };
        assert!(Form::parse("", many(Form::MEMBERS_MAX).as_bytes()).is_ok());
        assert!(Form::parse("", many(Form::MEMBERS_MAX + 1).as_bytes()).is_err());
    }
}
