//! Buckets of S3-compatible stores, with what AWS's own tools take from the environment.

mod same_host;

use object_store::aws::AmazonS3ConfigKey::{Endpoint, S3Endpoint};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use same_host::SameHost;
use std::io;
use std::sync::Arc;

/// A bucket. An endpoint without TLS is one that the user has named.
///
/// # Errors
/// What the environment has wrong.
pub fn bucket(name: &str) -> Result<Arc<AmazonS3>, object_store::Error> {
    let builder = AmazonS3Builder::from_env().with_bucket_name(name);
    let is_plain = [S3Endpoint, Endpoint].iter().any(|key| {
        let endpoint = builder.get_config_value(key);
        endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"))
    });
    let builder = builder.with_allow_http(is_plain);
    let store = builder.with_http_connector(SameHost).build()?;
    Ok(Arc::new(store))
}

/// The error of a store as one of reading or writing. Where the store has said what is wrong, in
/// the XML of S3, that is all of it.
#[must_use]
pub fn told(error: object_store::Error) -> io::Error {
    let text = error.to_string();
    match inside(&text, "Code") {
        Some(code) => {
            let message = inside(&text, "Message").unwrap_or_default();
            let told = format!("{code}: {}", message.trim_end_matches('.'));
            io::Error::other(told.trim_end_matches(": ").to_owned())
        }
        None => error.into(),
    }
}

/// The text of the first element of this name.
fn inside<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inside, _) = rest.split_once(&format!("</{name}>"))?;
    Some(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_says_is_told_without_its_xml() {
        let told = |text: &str| {
            let source = text.to_owned().into();
            told(object_store::Error::Generic {
                store: "S3",
                source,
            })
            .to_string()
        };
        let xml = "404 Not Found: <?xml version=\"1.0\"?>\n<Error><Code>NoSuchBucket</Code><Message>The \
                   specified bucket does not exist.</Message><RequestId>x</RequestId></Error>";
        assert_eq!(
            told(xml),
            "NoSuchBucket: The specified bucket does not exist"
        );
        assert_eq!(told("<Error><Code>SlowDown</Code></Error>"), "SlowDown");
        assert_eq!(told("no answer"), "Generic S3 error: no answer");
    }
}
