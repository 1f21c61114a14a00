//! The signatures of requests, against `aws-sigv4`, with which the AWS SDK for Rust signs.

use super::server::Asked;
use super::{ACCESS_KEY_ID, NOW, REGION, SECRET};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use std::time::{Duration, UNIX_EPOCH};

/// Signs the same request, and compares.
pub(super) fn check(asked: &Asked) {
    let identity = Credentials::new(ACCESS_KEY_ID, SECRET, None, None, "test").into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(REGION)
        .name("kms-xks-proxy")
        .time(UNIX_EPOCH + Duration::from_micros(NOW.0))
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let names = ["accept", "content-type", "host"];
    let headers = names.map(|name| (name, asked.header(name).unwrap()));
    let url = format!("https://{}{}", asked.header("host").unwrap(), asked.path);
    let body = SignableBody::Bytes(&asked.text);
    let request = SignableRequest::new("POST", url, headers.into_iter(), body).unwrap();
    let (instructions, _) = sign(request, &parameters).unwrap().into_parts();
    let (signed, _) = instructions.into_parts();
    assert!(signed.iter().any(|header| header.name() == "authorization"));
    for header in signed {
        assert_eq!(
            asked.header(header.name()),
            Some(header.value()),
            "{}",
            header.name()
        );
    }
}
