//! The objects of a bucket: one by its key, those of a prefix, or those of a pattern.

use super::{PATTERN, is_hidden, is_hive, matcher};
use crate::s3;
use crate::table::object::{Object, Storage};
use crate::table::{Format, TableError, lake};
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::{Error as KeyError, Path as Key};
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Objects beside a table's that are looked at for a log of it: more than a page of a listing are
/// not asked for.
const LOG_OBJECTS_MAX: usize = 1000;

/// The objects of this key, prefix or pattern.
///
/// # Errors
/// [`TableError`], when they cannot be listed, or are of a table with a log of its own.
pub(super) async fn objects(
    bucket: &str,
    key: &str,
    is_table: impl FnMut(&str) -> bool,
    runtime: &Handle,
) -> Result<Vec<Object>, TableError> {
    let place = Place { bucket, key };
    let store: Arc<dyn ObjectStore> = s3::bucket(bucket).map_err(|error| place.failed(error))?;
    let found = place.listed(&*store, is_table).await?;
    let object = |meta: ObjectMeta| {
        let version = match &meta.e_tag {
            Some(tag) => tag.clone(),
            None => meta.last_modified.timestamp_micros().to_string(),
        };
        let (name, length) = (place.named(meta.location.as_ref()), meta.size);
        let source = Storage::Store {
            store: Arc::clone(&store),
            path: meta.location,
            tag: meta.e_tag,
            runtime: runtime.clone(),
        };
        Object::new(name, length, version, source)
    };
    Ok(found.into_iter().map(object).collect())
}

/// What the user calls the table.
struct Place<'a> {
    bucket: &'a str,
    key: &'a str,
}

impl Place<'_> {
    fn named(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }

    fn failed(&self, error: Error) -> TableError {
        match error {
            // The client knows keys alone whose parts are names.
            Error::InvalidPath {
                source: KeyError::EmptySegment { path } | KeyError::BadSegment { path, .. },
            } => refused(self.named(&path)),
            error => TableError::io(&self.named(self.key), s3::told(error)),
        }
    }

    /// A key is what the user wrote; the client encodes it for the wire.
    fn parsed(&self, key: &str) -> Result<Key, TableError> {
        // It would leave out a slash at the beginning, and read another object.
        match Key::parse(key) {
            Ok(parsed) if !key.starts_with('/') => Ok(parsed),
            _ => Err(refused(self.named(key))),
        }
    }

    async fn listed(
        &self,
        store: &dyn ObjectStore,
        mut is_table: impl FnMut(&str) -> bool,
    ) -> Result<Vec<ObjectMeta>, TableError> {
        let key = self.key;
        let is_pattern = key.contains(PATTERN);
        // An object may have the name of a pattern. So the live files of a table with a log of its
        // own are handed over.
        if !key.is_empty() && !key.ends_with('/') {
            match store.head(&self.parsed(key)?).await {
                Ok(meta) => return Ok(vec![meta]),
                Err(Error::NotFound { .. }) => {}
                Err(_) if is_pattern => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        let pattern = is_pattern.then(|| matcher(key)).transpose()?;
        // A store's prefix ends where a component does.
        let fixed: Vec<_> = key
            .split('/')
            .take_while(|part| !part.contains(PATTERN))
            .collect();
        let prefix = self.parsed(&fixed.join("/"))?;
        let mut logs = BTreeMap::new();
        let mut is_wanted = |meta: &ObjectMeta| {
            let path = meta.location.as_ref();
            if let Some((table, fault)) = lake::of_log(path) {
                logs.entry(table.to_owned()).or_insert(fault);
            }
            let below = path.strip_prefix(prefix.as_ref()).unwrap_or(path);
            let below = below.strip_prefix('/').unwrap_or(below);
            let (folders, name) = below.rsplit_once('/').unwrap_or(("", below));
            let is_hidden_folder = |folder| is_hidden(folder) && !is_hive(folder);
            // Consoles put an object without bytes where they show a folder.
            let is_marker = meta.size == 0 && Format::of(path).is_none();
            let is_seen =
                !is_marker && !is_hidden(name) && !folders.split('/').any(is_hidden_folder);
            match &pattern {
                Some(pattern) => is_seen && pattern.is_match(path),
                None => is_seen && is_table(path),
            }
        };
        let found: Vec<ObjectMeta> = store
            .list(Some(&prefix))
            .try_filter(|meta| std::future::ready(is_wanted(meta)))
            .try_collect()
            .await
            .map_err(|error| self.failed(error))?;
        if !found.is_empty() {
            for folder in folders(prefix.as_ref()).skip(1) {
                if let Some(fault) = self.log_in(store, folder).await {
                    logs.insert(folder.to_owned(), fault);
                }
            }
        }
        for folder in found
            .iter()
            .flat_map(|meta| folders(meta.location.as_ref()))
        {
            if let Some(fault) = logs.get(folder) {
                return Err(TableError::Location {
                    location: self.named(folder),
                    reason: (*fault).to_owned(),
                });
            }
        }
        Ok(found)
    }

    /// The fault of a folder that the listing was not of.
    async fn log_in(&self, store: &dyn ObjectStore, folder: &str) -> Option<&'static str> {
        for log in lake::LOGS {
            let prefix = match folder {
                "" => Key::from(log),
                folder => Key::parse(format!("{folder}/{log}")).ok()?,
            };
            let mut objects = store.list(Some(&prefix)).take(LOG_OBJECTS_MAX);
            while let Some(object) = objects.next().await {
                match object {
                    Ok(meta) => match lake::of_log(meta.location.as_ref()) {
                        Some((table, fault)) if table == folder => return Some(fault),
                        _ => {}
                    },
                    // A caller may list the table's prefix alone.
                    Err(error) => {
                        let (prefix, reason) = (self.named(prefix.as_ref()), s3::told(error));
                        tracing::warn!(%prefix, %reason, "cannot look whether this is there");
                        break;
                    }
                }
            }
        }
        None
    }
}

/// A path and the folders above it, the bucket's own among them.
fn folders(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| match path.rsplit_once('/') {
        Some((above, _)) => Some(above),
        None => (!path.is_empty()).then_some(""),
    })
}

fn refused(location: String) -> TableError {
    TableError::Location {
        location,
        reason: "a key that begins with a slash, or has an empty part, \".\" or \"..\" between its slashes, is not read; give that object another key, or name the others".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    async fn names(
        keys: &[&str],
        key: &str,
        format: Option<Format>,
    ) -> Result<Vec<String>, String> {
        let store = InMemory::new();
        for key in keys {
            let bytes = if Format::of(key).is_some() { "x" } else { "" };
            store
                .put(&Key::from_iter(key.split('/')), bytes.into())
                .await
                .unwrap();
        }
        let place = Place { bucket: "b", key };
        let is_table = |name: &str| format.is_some() || Format::of(name).is_some();
        let found = place.listed(&store, is_table).await;
        let found = found.map_err(|error| error.to_string())?;
        let mut names: Vec<_> = found.iter().map(|meta| meta.location.to_string()).collect();
        names.sort();
        Ok(names)
    }

    #[tokio::test]
    async fn keys_prefixes_and_patterns_stand_for_objects() {
        let keys = [
            "a.csv",
            "n/b.csv",
            "n/c.csv",
            "n/_d.csv",
            "m/_x/e.csv",
            "n",
            "n/deep",
        ];
        for (key, found) in [
            ("a.csv", &["a.csv"][..]),
            ("n/", &["n/b.csv", "n/c.csv"]),
            ("n/_d.csv", &["n/_d.csv"]),
            ("*/b.csv", &["n/b.csv"]),
            ("m", &[]),
        ] {
            // Markers of folders are passed over where every ending is read, too.
            for format in [None, Some(Format::Csv)] {
                assert_eq!(names(&keys, key, format).await.unwrap(), found, "{key}");
            }
        }
    }

    #[tokio::test]
    async fn live_and_dead_files_are_not_told_apart() {
        let delta = ["t/_delta_log/0.json", "t/x=1/a.csv", "o/b.csv"];
        let iceberg = ["t/metadata/v1.metadata.json", "t/data/a.csv"];
        let hudi = ["t/.hoodie/hoodie.properties", "t/x=1/a.csv"];
        for (keys, key, said) in [
            (&delta[..], "t", "s3://b/t: it is a Delta Lake table"),
            (&delta, "t/x=1/", "s3://b/t: it is a Delta Lake table"),
            (&delta, "t/x=1/*.csv", "s3://b/t: it is a Delta Lake table"),
            (&delta, "**/a.csv", "s3://b/t: it is a Delta Lake table"),
            (&iceberg, "t/data", "s3://b/t: it is an Iceberg table"),
            (&hudi, "t", "s3://b/t: it is an Apache Hudi table"),
            (&hudi, "t/x=1", "s3://b/t: it is an Apache Hudi table"),
        ] {
            let refused = names(keys, key, None).await.unwrap_err();
            assert!(refused.starts_with(said), "{key}: {refused}");
        }
        for (key, found) in [("t/x=1/a.csv", "t/x=1/a.csv"), ("o/*.csv", "o/b.csv")] {
            assert_eq!(names(&delta, key, None).await.unwrap(), [found]);
        }
    }

    /// `s3://b//k.csv` is not `s3://b/k.csv`.
    #[tokio::test]
    async fn a_key_that_begins_with_a_slash_is_refused() {
        for key in ["/k.csv", "/", "/k/*.csv", "//"] {
            let refused = names(&["k.csv", "k/a.csv"], key, None).await.unwrap_err();
            let begin = format!("s3://b/{key}: a key that begins with a slash, ");
            assert!(
                refused.starts_with(&begin) || key == "/k/*.csv",
                "{refused}"
            );
            assert!(refused.contains("is not read"), "{refused}");
        }
    }

    #[test]
    fn a_key_that_the_client_cannot_say_is_named() {
        let place = Place {
            bucket: "b",
            key: "k/",
        };
        let source = Key::parse("k/x//y.csv").unwrap_err();
        let refused = place.failed(Error::InvalidPath { source }).to_string();
        assert!(
            refused.starts_with("s3://b/k/x//y.csv: a key that"),
            "{refused}"
        );
    }
}
