//! The XML of answers: indented by two spaces, a line feed at the end, no declaration, as AWS
//! writes it.

use quick_xml::escape::{escape, partial_escape};
use std::borrow::Cow;
use std::fmt::Display;
use zeroize::Zeroizing;

/// The namespace of every answer.
const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
/// The namespace of the refusal of an operation that no service has.
const FAULT_NAMESPACE: &str = "http://webservices.amazon.com/AWSFault/2005-15-09";

/// Bytes that are reserved for an answer. One with credentials never grows beyond them, so that no
/// copy of a secret is left behind.
const BYTES: usize = 16 * 1024;

/// An answer that is being written. It is wiped when dropped.
pub(super) struct Xml {
    out: Zeroizing<Vec<u8>>,
    open: Vec<String>,
}

impl Xml {
    fn begin(root: &str, namespace: &str) -> Self {
        let mut xml = Self {
            out: Zeroizing::new(Vec::with_capacity(BYTES)),
            open: Vec::new(),
        };
        xml.line(&format!("<{root} xmlns=\"{namespace}\">"));
        xml.open.push(root.to_owned());
        xml
    }

    fn line(&mut self, text: &str) {
        self.pieces(&[text]);
    }

    /// A line, written without a copy of what is in it.
    fn pieces(&mut self, pieces: &[&str]) {
        for _ in 0..self.open.len() {
            self.out.extend_from_slice(b"  ");
        }
        for piece in pieces {
            self.out.extend_from_slice(piece.as_bytes());
        }
        self.out.push(b'\n');
    }

    /// Opens an element.
    pub(super) fn open(&mut self, name: &str) {
        self.line(&format!("<{name}>"));
        self.open.push(name.to_owned());
    }

    /// Closes the element that was opened last.
    pub(super) fn close(&mut self) {
        if let Some(name) = self.open.pop() {
            self.line(&format!("</{name}>"));
        }
    }

    /// An element with a text, which is escaped.
    pub(super) fn text(&mut self, name: &str, text: &str) {
        let text = shown(text);
        self.pieces(&["<", name, ">", &escape(&*text), "</", name, ">"]);
    }
}

/// The answer of an operation: `<NameResponse><NameResult>…</NameResult><ResponseMetadata>…`.
pub(super) fn answer(
    operation: &str,
    request_id: impl Display,
    write: impl FnOnce(&mut Xml),
) -> Zeroizing<Vec<u8>> {
    let mut xml = Xml::begin(&format!("{operation}Response"), NAMESPACE);
    xml.open(&format!("{operation}Result"));
    write(&mut xml);
    xml.close();
    xml.open("ResponseMetadata");
    xml.text("RequestId", &request_id.to_string());
    xml.close();
    xml.close();
    xml.out
}

/// The body of a refusal.
pub(super) fn error(kind: &str, code: &str, message: &str, request_id: &str) -> Vec<u8> {
    let namespace = if code == "InvalidAction" {
        FAULT_NAMESPACE
    } else {
        NAMESPACE
    };
    let mut xml = Xml::begin("ErrorResponse", namespace);
    xml.open("Error");
    xml.text("Type", kind);
    xml.text("Code", code);
    // Apostrophes and quotation marks stand as they are in AWS's messages.
    let message = shown(message);
    xml.pieces(&["<Message>", &partial_escape(&*message), "</Message>"]);
    xml.close();
    xml.text("RequestId", request_id);
    xml.close();
    std::mem::take(&mut *xml.out)
}

/// The text, with U+FFFD in the place of characters that XML 1.0 cannot carry (section 2.2). Nearly
/// every text is one as it is, and a secret is not copied.
fn shown(text: &str) -> Cow<'_, str> {
    let fits = |one: char| matches!(one, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    if text.chars().all(fits) {
        return Cow::Borrowed(text);
    }
    let of = |one| {
        if fits(one) {
            one
        } else {
            char::REPLACEMENT_CHARACTER
        }
    };
    text.chars().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_as_many_bytes_as_awss() {
        let body = error(
            "Sender",
            "InvalidClientTokenId",
            "The security token included in the request is invalid",
            "16fc956c-311e-4199-bee1-1680236e9698",
        );
        // `Content-Length` of this very answer of AWS.
        assert_eq!(body.len(), 305);
        let expected = "\
<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">
  <Error>
    <Type>Sender</Type>
    <Code>InvalidClientTokenId</Code>
    <Message>The security token included in the request is invalid</Message>
  </Error>
  <RequestId>16fc956c-311e-4199-bee1-1680236e9698</RequestId>
</ErrorResponse>
";
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    #[test]
    fn texts_are_escaped_and_an_apostrophe_stands() {
        let body = error("Sender", "ValidationError", "at 'x' <&>\0\u{ffff}", "id");
        let body = String::from_utf8(body).unwrap();
        let message = "<Message>at 'x' &lt;&amp;&gt;\u{fffd}\u{fffd}</Message>";
        assert!(body.contains(message), "{body}");
        // A subject of another issuer may have such a character too.
        let answer = answer("Op", "id", |xml| xml.text("A", "<&>\u{1}"));
        let answer = str::from_utf8(&answer).unwrap();
        let text = "    <A>&lt;&amp;&gt;\u{fffd}</A>\n";
        assert!(answer.contains(text), "{answer}");
        assert!(answer.starts_with("<OpResponse xmlns="), "{answer}");
    }
}
