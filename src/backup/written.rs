//! Writes a backup, and verifies what was written by reading it back.

use crate::backup::folder::{BackupError, Folder, Manifest, Origin};
use crate::backup::frames::{Digest, End};
use crate::backup::source::{Source, Step};
use crate::clock::Timestamp;
use crate::clock::calendar::Iso8601;
use crate::key::regions::Regions;
use crate::keystore::RootKey;
use crate::keystore::checked::Checked;
use crate::keystore::reading::{Pages, Place, Reading};
use crate::keystore::store_file::StoreFile;
use std::path::Path;

/// Writes what `source` gives into the folder. With the root key, each record is authenticated in
/// the file that was written; without it, the file has the digest of what was authenticated.
/// `progress` is given the number of records so far.
///
/// # Errors
/// [`BackupError`]; the folder is not a backup then.
pub async fn write(
    mut source: Source,
    folder: &Folder,
    root: Option<(&RootKey, &Regions)>,
    now: Timestamp,
    mut progress: impl FnMut(u64),
) -> Result<Manifest, BackupError> {
    let path = folder.unfinished();
    let mut file = StoreFile::begin(&path).await?;
    let (mut digest, mut written) = (Digest::default(), 0);
    let end = loop {
        match source.next().await? {
            Step::Some { records, findings } => {
                if let Some(finding) = findings.into_iter().next() {
                    return Err(BackupError::Findings(finding));
                }
                file.put(&records).await?;
                digest.add(&records);
                written += records.len() as u64;
                progress(written);
            }
            Step::End(end) => break end,
        }
    };
    let received = digest.end(&source.head);
    if received != end.digest || written != end.summary.records || end.summary.findings > 0 {
        let reason = "what came is not what was sent".to_owned();
        return Err(BackupError::Cut(reason));
    }
    file.finish(source.head).await?;
    verify(&path, &end, root).await?;
    let made_at = (Iso8601::of(now).to_string(), now.unix_seconds());
    let by = match root {
        Some(_) => "root key",
        None => "daemon",
    };
    let origin = Origin::from(source.begin);
    folder.finish(origin, end.summary, end.digest, by, made_at)
}

/// Reads the file back and holds it to what was sent.
async fn verify(
    path: &Path,
    end: &End,
    root: Option<(&RootKey, &Regions)>,
) -> Result<(), BackupError> {
    let reading = Reading::begin(Place::File(path.to_owned()), Pages::Checked).await?;
    let found = match root {
        Some((root, regions)) => of_checked(Checked::with_root(reading, root, regions)?).await?,
        None => of_records(reading).await?,
    };
    if found == end.digest {
        return Ok(());
    }
    Err(BackupError::Damaged {
        path: path.to_owned(),
        reason: "it does not have the records that were written to it".to_owned(),
    })
}

/// The digest of a store in which nothing is wrong.
pub(super) async fn of_checked(checked: Checked) -> Result<String, BackupError> {
    let mut source = Source::here(checked);
    loop {
        match source.next().await? {
            Step::Some { findings, .. } => {
                if let Some(finding) = findings.into_iter().next() {
                    return Err(BackupError::Findings(finding));
                }
            }
            Step::End(end) => return Ok(end.digest),
        }
    }
}

async fn of_records(mut reading: Reading) -> Result<String, BackupError> {
    let mut digest = Digest::default();
    while let Some(records) = reading.records().await? {
        digest.add(&records);
    }
    Ok(digest.end(reading.head()))
}
