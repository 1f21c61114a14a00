//! What a restore would take back, and the restore.

use crate::backup::folder::{BackupError, Folder, Manifest};
use crate::backup::written::of_checked;
use crate::clock::Timestamp;
use crate::clock::calendar::iso_8601_basic;
use crate::crypto::entropy::Entropy;
use crate::key::regions::Regions;
use crate::keystore::carried::Carried;
use crate::keystore::checked::Checked;
use crate::keystore::reading::{self, Pages, Reading, Records};
use crate::keystore::replaced::Place;
use crate::keystore::{RootKey, store_file};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Names of records that are kept for the user.
const NAMES_MAX: usize = 1000;

/// A restore that was not done yet. The store's lock is held.
pub struct Plan<'a> {
    /// What the backup says of itself. Every record of it was authenticated.
    pub manifest: Manifest,
    /// What is there now.
    pub present: Present,
    /// What would change, where that can be said.
    pub difference: Option<Difference>,
    /// The revision of the restored store: above what this host has seen.
    pub revision: u64,
    place: Place,
    file: PathBuf,
    root: &'a RootKey,
    regions: &'a Regions,
}

/// The store that a restore would replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Present {
    /// There is none.
    Absent,
    /// It is damaged, or its root key is another one: why.
    Unreadable(String),
    /// It is whole.
    Whole {
        /// Its revision.
        revision: u64,
        /// Its records.
        records: u64,
    },
}

/// Records by the names of their kinds.
pub type Counts = BTreeMap<&'static str, u64>;

/// What a restore changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Records that are there now and would be gone.
    pub gone: Counts,
    /// Records that were removed since, and would be back.
    pub back: Counts,
    /// Records that would be as they were.
    pub changed: Counts,
    /// The first records that would be gone, by kind and id.
    pub gone_names: Vec<(&'static str, String)>,
}

/// A store that was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Where the store is kept that was replaced.
    pub kept: Option<PathBuf>,
    /// The revision of the restored store.
    pub revision: u64,
}

impl<'a> Plan<'a> {
    /// Verifies the backup and looks at what its restore into the store at `store` would change.
    ///
    /// # Errors
    /// [`BackupError`]; nothing has changed.
    pub async fn make(
        backup: &Path,
        store: &Path,
        root: &'a RootKey,
        regions: &'a Regions,
    ) -> Result<Self, BackupError> {
        let place = Place::take(store)?;
        let (manifest, file) = Folder::read(backup)?;
        let digest = of_checked(checked(&file, root, regions).await?).await;
        let digest = digest.map_err(|error| match error {
            BackupError::Findings(reason) => BackupError::Damaged {
                path: file.clone(),
                reason: format!("it {reason}"),
            },
            error => error,
        })?;
        if digest != manifest.digest {
            return Err(BackupError::Damaged {
                path: file,
                reason: "its records are not those of its manifest".to_owned(),
            });
        }
        let present = present(store, root, regions).await;
        let difference = match present {
            Present::Whole { .. } => Some(difference(store, &file).await?),
            Present::Absent | Present::Unreadable(_) => None,
        };
        let at = match present {
            Present::Whole { revision, .. } => revision,
            Present::Absent | Present::Unreadable(_) => 0,
        };
        let revision = place.next_revision(at.max(manifest.summary.revision))?;
        Ok(Self {
            manifest,
            present,
            difference,
            revision,
            place,
            file,
            root,
            regions,
        })
    }

    /// Does it. The store that is there is kept beside the restored one.
    ///
    /// # Errors
    /// [`BackupError`]; the store that was there is in its place then, or the restored one is.
    pub async fn carry_out(
        self,
        now: Timestamp,
        entropy: &Entropy,
    ) -> Result<Restored, BackupError> {
        // Authenticated again: what is written is what was read now.
        let from = checked(&self.file, self.root, self.regions).await?;
        let unfinished = self.place.unfinished();
        let mut from = Carried::at(self.revision, from);
        let head = store_file::write(&unfinished, &mut from, entropy, |_| ()).await?;
        if from.summary() != self.manifest.summary {
            return Err(BackupError::Damaged {
                path: self.file,
                reason: "it has changed meanwhile".to_owned(),
            });
        }
        let kept = kept(self.place.path(), now);
        self.place.fill(&head, &kept).await?;
        Ok(Restored {
            kept: kept.exists().then_some(kept),
            revision: self.revision,
        })
    }
}

async fn checked(file: &Path, root: &RootKey, regions: &Regions) -> Result<Checked, BackupError> {
    let place = reading::Place::File(file.to_owned());
    let reading = Reading::begin(place, Pages::Checked).await?;
    Ok(Checked::with_root(reading, root, regions)?)
}

async fn present(store: &Path, root: &RootKey, regions: &Regions) -> Present {
    if !store.exists() {
        return Present::Absent;
    }
    let whole = async {
        let mut checked = checked(store, root, regions).await?;
        while let Some(batch) = checked.next().await? {
            if let Some(finding) = batch.findings.first() {
                return Err(BackupError::Findings(finding.to_string()));
            }
        }
        Ok(checked.summary())
    };
    match whole.await {
        Ok(summary) => Present::Whole {
            revision: summary.revision,
            records: summary.records,
        },
        Err(BackupError::Findings(finding)) => Present::Unreadable(finding),
        Err(error) => Present::Unreadable(error.to_string()),
    }
}

/// Compares two stores, both of which are in the order of kind and id.
async fn difference(now: &Path, then: &Path) -> Result<Difference, BackupError> {
    let mut found = Difference::default();
    let (mut now, mut then) = (records(now).await?, records(then).await?);
    let (mut left, mut right) = (now.next().await?, then.next().await?);
    loop {
        let order = match (&left, &right) {
            (None, None) => return Ok(found),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(now), Some(then)) => now.name().cmp(&then.name()),
        };
        match order {
            Ordering::Less => {
                if let Some(gone) = left {
                    *found.gone.entry(gone.kind.name()).or_default() += 1;
                    if found.gone_names.len() < NAMES_MAX {
                        found.gone_names.push((gone.kind.name(), gone.id));
                    }
                }
                left = now.next().await?;
            }
            Ordering::Greater => {
                if let Some(back) = right {
                    *found.back.entry(back.kind.name()).or_default() += 1;
                }
                right = then.next().await?;
            }
            Ordering::Equal => {
                if let Some(one) = left.filter(|one| Some(one) != right.as_ref()) {
                    *found.changed.entry(one.kind.name()).or_default() += 1;
                }
                left = now.next().await?;
                right = then.next().await?;
            }
        }
    }
}

async fn records(path: &Path) -> Result<Records, BackupError> {
    let place = reading::Place::File(path.to_owned());
    Ok(Reading::begin(place, Pages::AsTheyCome).await?.one_by_one())
}

/// The name under which the store is kept that is replaced now.
fn kept(store: &Path, now: Timestamp) -> PathBuf {
    let seconds = i64::try_from(now.unix_seconds()).unwrap_or(i64::MAX);
    let time = iso_8601_basic(seconds);
    let time = String::from_utf8_lossy(&time);
    let mut name = store.as_os_str().to_owned();
    name.push(format!(".before-restore-{time}"));
    let mut further = 1;
    // Of another restore within the same second.
    while Path::new(&name).exists() {
        further += 1;
        name = store.as_os_str().to_owned();
        name.push(format!(".before-restore-{time}-{further}"));
    }
    name.into()
}
