//! Buckets of S3-compatible stores, with what AWS's own tools take from the environment.

mod same_host;

use object_store::aws::AmazonS3ConfigKey::{Endpoint, S3Endpoint};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use same_host::SameHost;
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
