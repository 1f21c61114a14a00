//! Where a job writes, as a caller names it: a local folder, or a prefix of a bucket.

use crate::bulk::JobError;
use std::path::{Path, PathBuf};
use tokio::runtime::Handle;

/// Where a job writes.
#[derive(Clone, Debug)]
pub struct Out {
    path: PathBuf,
    bucket: Option<Bucket>,
}

/// A prefix of a bucket.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    /// The bucket.
    pub(super) name: String,
    /// The prefix, without slashes around it.
    pub(super) prefix: String,
    /// What waits for the store.
    pub(super) runtime: Handle,
}

impl From<PathBuf> for Out {
    /// A local folder.
    fn from(path: PathBuf) -> Self {
        Self { path, bucket: None }
    }
}

impl Out {
    /// What `named` means: `s3://BUCKET/PREFIX`, or a local folder.
    ///
    /// # Errors
    /// [`JobError::OutIsRemote`]: a place that is not written to.
    pub fn new(named: &Path, runtime: &Handle) -> Result<Self, JobError> {
        let text = named.to_string_lossy();
        if !text.contains("://") {
            return Ok(named.to_owned().into());
        }
        let refused = || JobError::OutIsRemote(named.to_owned());
        let rest = text.strip_prefix("s3://").ok_or_else(refused)?;
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let is_sound = |part: &str| !part.is_empty() && part != "." && part != "..";
        if name.is_empty() || !prefix.is_empty() && !prefix.split('/').all(is_sound) {
            return Err(refused());
        }
        Ok(Self {
            path: PathBuf::from(format!("s3://{name}/{prefix}").trim_end_matches('/')),
            bucket: Some(Bucket {
                name: name.to_owned(),
                prefix: prefix.to_owned(),
                runtime: runtime.clone(),
            }),
        })
    }

    /// As messages show it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn bucket(&self) -> Option<&Bucket> {
        self.bucket.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let out = |text: &str| Out::new(Path::new(text), runtime.handle());
        for text in ["out", "/x/s3/out", "s3:/bucket"] {
            assert!(out(text).unwrap().bucket().is_none(), "{text}");
        }
        for (text, name, prefix, shown) in [
            ("s3://b/k/l", "b", "k/l", "s3://b/k/l"),
            ("s3://b/k ü/", "b", "k ü", "s3://b/k ü"),
            ("s3://b", "b", "", "s3://b"),
        ] {
            let out = out(text).unwrap();
            let bucket = out.bucket().unwrap();
            assert_eq!((&*bucket.name, &*bucket.prefix), (name, prefix), "{text}");
            assert_eq!(out.path(), Path::new(shown));
        }
        for text in [
            "gs://b/k",
            "file:///x",
            "az://b",
            "S3://b/k",
            "s3://",
            "s3:///k",
            "s3://b/../k",
            "s3://b/k//l",
        ] {
            let refused = out(text).unwrap_err().to_string();
            assert!(refused.starts_with(text), "{refused}");
        }
    }
}
