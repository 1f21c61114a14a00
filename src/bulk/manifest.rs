//! The manifest of a job: its parameters, and the parts that are finished.

use crate::bulk::JobError;
use crate::bulk::input::File;
use crate::bulk::parameter::Parameter;
use crate::bulk::part_folders::{self, PartFolders};
use crate::table::{FolderNames, Location, Object, folders};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;
use std::ops::Range;

/// The program that wrote the job.
pub const SOFTWARE: &str = concat!("keymill ", env!("CARGO_PKG_VERSION"));

/// `_manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest<K> {
    /// [`Kind::FORMAT`].
    pub format: String,
    /// [`SOFTWARE`] of the job's beginning.
    pub software: String,
    /// 32 hex digits that only this job has; every part carries them.
    pub run: String,
    /// The parameters that the caller gave.
    pub parameters: Parameters<K>,
    /// Whether every row is there.
    pub complete: bool,
    /// Rows of all parts.
    pub rows: u64,
    /// Bytes of all parts.
    pub bytes: u64,
    /// The finished parts, by first row.
    pub parts: Vec<Part>,
}

/// What a kind of job has beside what all jobs have.
pub trait Kind: Clone + Serialize + DeserializeOwned + Send + Sync {
    /// The layout of the folder and of its manifest.
    const FORMAT: &'static str;

    /// What a job is resumed with only if it is as it was, in the order in which differences are
    /// reported.
    fn arguments(&self) -> Vec<(Parameter, String)>;
}

/// What decides the rows of a job; it is resumed only with the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters<K> {
    /// The key that new blobs are under, as the caller named it.
    pub key: String,
    /// What this name meant; empty until that is known.
    pub key_arn: String,
    /// The table as the caller named it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// What only jobs of this kind have.
    #[serde(flatten)]
    pub kind: K,
    /// Rows of every part but the last; where parts are listed, how many each has about.
    pub rows_per_part: u64,
    /// Where parts are whole row groups, or are in folders: for each the number of the row behind
    /// its last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub part_ends: Vec<u64>,
    /// The folders that are columns.
    #[serde(default, skip_serializing_if = "PartFolders::is_plain")]
    pub folders: PartFolders,
    /// Rows in all, without those that are left out.
    pub count: u64,
    /// Rows of the input that are left out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
    /// The files, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl<K: Kind> Parameters<K> {
    /// Those of a job that begins, or goes on from what its folder holds.
    #[must_use]
    pub fn new(asked: Asked<'_>, key_arn: Option<&str>, held: Option<&Self>, kind: K) -> Self {
        let empty = Self {
            key: String::new(),
            key_arn: String::new(),
            inputs: Vec::new(),
            kind: kind.clone(),
            rows_per_part: 0,
            part_ends: Vec::new(),
            folders: PartFolders::default(),
            count: 0,
            left_out: 0,
            files: Vec::new(),
        };
        let mut held = held.cloned().unwrap_or(empty);
        held.folders.no_hive = asked.folder_names == FolderNames::Nothing;
        Self {
            key: asked.key.to_owned(),
            key_arn: key_arn.unwrap_or_default().to_owned(),
            inputs: asked.inputs.iter().map(ToString::to_string).collect(),
            kind,
            rows_per_part: asked
                .rows_per_part
                .map_or(held.rows_per_part, NonZeroU64::get),
            ..held
        }
    }

    /// Which rows are in which part.
    #[must_use]
    pub fn parts(&self) -> Parts<'_> {
        match &self.part_ends[..] {
            [] => Parts::Even {
                count: self.count,
                rows_per_part: self.rows_per_part,
            },
            ends => Parts::Listed(ends),
        }
    }

    /// The file of a part, from the job's folder on.
    #[must_use]
    pub fn part_file(&self, number: u64) -> String {
        let file = part_file(number);
        match self.folders.of(number) {
            "" => file,
            folder => format!("{folder}/{file}"),
        }
    }

    /// Notes where parts end, and in which folders they are; an earlier run must have found the
    /// same.
    ///
    /// # Errors
    /// [`JobError::Changed`], when it has not.
    pub fn cut<'a>(
        &mut self,
        is_resumed: bool,
        objects: &'a [Object],
        ends: Vec<u64>,
        in_folders: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), JobError> {
        let before = (self.part_ends.clone(), self.folders.clone());
        self.part_ends = ends;
        self.folders.columns = folders::names(objects);
        self.folders = std::mem::take(&mut self.folders).with(in_folders);
        if is_resumed && before != (self.part_ends.clone(), self.folders.clone()) {
            let first = objects.first().map(|object| object.name.clone());
            return Err(JobError::Changed(first.unwrap_or_default()));
        }
        Ok(())
    }

    /// Whether a job with these may be resumed by one with `asked`.
    ///
    /// # Errors
    /// [`JobError::Mismatch`], which names the first difference.
    pub fn permit(&self, asked: &Self) -> Result<(), JobError> {
        let (key, key_asked) = keys(self, asked);
        let (here, asked) = (self.arguments(key), asked.arguments(key_asked));
        let mut both = here.into_iter().zip(asked);
        match both.find(|((_, here), (_, asked))| here != asked) {
            None => Ok(()),
            Some(((parameter, here), (_, asked))) => Err(JobError::Mismatch {
                parameter,
                here,
                asked,
            }),
        }
    }

    fn arguments(&self, key: &str) -> Vec<(Parameter, String)> {
        let mut all = vec![
            (Parameter::Key, key.to_owned()),
            (Parameter::Input, self.inputs.join(" ")),
            (Parameter::Folders, self.folders.shown()),
        ];
        all.extend(self.kind.arguments());
        // That of a table is what the look at it has found.
        all.push((Parameter::Count, self.count.to_string()));
        all.push((Parameter::RowsPerPart, self.rows_per_part.to_string()));
        all
    }
}

/// What a caller asks of every job.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The key as the caller names it.
    pub key: &'a str,
    /// The table.
    pub inputs: &'a [Location],
    /// What the names of its folders are taken for.
    pub folder_names: FolderNames,
    /// Rows of a part; `None` takes the job's own where it is resumed.
    pub rows_per_part: Option<NonZeroU64>,
}

/// Which rows of a job are in which part.
#[derive(Clone, Copy, Debug)]
pub enum Parts<'a> {
    /// As many in each but the last.
    Even {
        /// Rows in all.
        count: u64,
        /// Rows of a part.
        rows_per_part: u64,
    },
    /// For each part the number of the row behind its last.
    Listed(&'a [u64]),
}

impl Parts<'_> {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        match *self {
            Self::Even {
                count,
                rows_per_part,
            } => count.div_ceil(rows_per_part.max(1)).max(1),
            Self::Listed(ends) => ends.len() as u64,
        }
    }

    /// The rows of part `number`, if there is one: at least one row, unless the job has none.
    #[must_use]
    pub fn rows(&self, number: u64) -> Option<Range<u64>> {
        let rows = match *self {
            Self::Even {
                count,
                rows_per_part,
            } => {
                let first = number.checked_mul(rows_per_part)?;
                first..count.min(first.saturating_add(rows_per_part))
            }
            Self::Listed(ends) => {
                let at = usize::try_from(number).ok()?;
                let before = at.checked_sub(1).map(|before| ends.get(before));
                before.map_or(Some(0), |first| first.copied())?..*ends.get(at)?
            }
        };
        (rows.start < rows.end || number == 0).then_some(rows)
    }
}

/// The names of the keys to compare. Two names of one key are equal; an unresolved name is compared
/// as text.
fn keys<'a, K>(here: &'a Parameters<K>, asked: &'a Parameters<K>) -> (&'a str, &'a str) {
    if !asked.key_arn.is_empty() && !here.key_arn.is_empty() {
        (&here.key_arn, &asked.key_arn)
    } else if asked.key == here.key_arn {
        (&here.key_arn, &asked.key)
    } else {
        (&here.key, &asked.key)
    }
}

/// One part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The file, from the job's folder on.
    pub file: String,
    /// The number of its first row, from 0.
    pub first_row: u64,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// The generation of material that its rows are under.
    pub key_material_id: String,
}

impl<K: Kind> Manifest<K> {
    /// A job that has no parts yet.
    #[must_use]
    pub fn new(run: String, parameters: Parameters<K>) -> Self {
        Self {
            format: K::FORMAT.to_owned(),
            software: SOFTWARE.to_owned(),
            run,
            complete: false,
            parameters,
            rows: 0,
            bytes: 0,
            parts: Vec::new(),
        }
    }

    /// Adds a finished part.
    pub fn add(&mut self, part: Part) {
        self.rows += part.rows;
        self.bytes += part.bytes;
        let at = self
            .parts
            .partition_point(|other| other.first_row < part.first_row);
        self.parts.insert(at, part);
        self.complete = self.has_all();
    }

    /// Whether every row is there; of a table without rows, its columns.
    fn has_all(&self) -> bool {
        self.rows == self.parameters.count && !self.parts.is_empty()
    }

    /// Whether the part that begins at `first_row` is finished.
    #[must_use]
    pub fn has(&self, first_row: u64) -> bool {
        self.parts
            .binary_search_by_key(&first_row, |part| part.first_row)
            .is_ok()
    }

    /// Whether the manifest is consistent: parts in order, of the right rows and names, sums that
    /// add up.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let parts = self.parameters.parts();
        let part = |part: &Part| {
            let Some(number) = part_number(&part.file) else {
                return false;
            };
            let (rows, end) = (parts.rows(number), part.first_row.checked_add(part.rows));
            rows.is_some_and(|rows| (rows.start, Some(rows.end)) == (part.first_row, end))
                && self.parameters.part_file(number) == part.file
        };
        self.parameters.folders.are_sound()
            && self.parts.iter().all(part)
            && self
                .parts
                .windows(2)
                .all(|pair| pair[0].first_row < pair[1].first_row)
            && self.rows == self.parts.iter().map(|part| part.rows).sum::<u64>()
            && self.bytes == self.parts.iter().map(|part| part.bytes).sum::<u64>()
            && self.complete == self.has_all()
    }
}

/// The name of part `number`.
#[must_use]
pub fn part_file(number: u64) -> String {
    format!("part-{number:05}.parquet")
}

/// The number of the part that the name of a file says, which may be in folders of a job's.
#[must_use]
pub fn part_number(file: &str) -> Option<u64> {
    let file = match file.rsplit_once('/') {
        Some((folders, file)) => part_folders::is_path(folders).then_some(file)?,
        None => file,
    };
    let number: u64 = file
        .strip_prefix("part-")?
        .strip_suffix(".parquet")?
        .parse()
        .ok()?;
    (part_file(number) == file).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    struct TestKind {
        spec: String,
    }

    impl Kind for TestKind {
        const FORMAT: &'static str = "test/1";

        fn arguments(&self) -> Vec<(Parameter, String)> {
            vec![(Parameter::KeySpec, self.spec.clone())]
        }
    }

    type TestParameters = Parameters<TestKind>;

    fn parameters() -> TestParameters {
        Parameters {
            key: "alias/a".to_owned(),
            key_arn: "arn:a".to_owned(),
            count: 25,
            rows_per_part: 10,
            ..Parameters::default()
        }
    }

    fn part(number: u64, rows: u64) -> Part {
        Part {
            file: part_file(number),
            first_row: number * 10,
            rows,
            bytes: rows * 100,
            sha256: String::new(),
            key_material_id: String::new(),
        }
    }

    #[test]
    fn parts_are_kept_in_order_and_the_last_one_completes() {
        let mut manifest = Manifest::new("r".to_owned(), parameters());
        manifest.add(part(2, 5));
        manifest.add(part(0, 10));
        assert!(!manifest.complete && manifest.is_sound() && !manifest.has(10));
        manifest.add(part(1, 10));
        assert!(manifest.complete && manifest.is_sound() && manifest.has(10));
        assert_eq!((manifest.rows, manifest.bytes), (25, 2500));
        assert_eq!(manifest.parts[1].file, "part-00001.parquet");
    }

    #[test]
    fn a_manifest_that_cannot_be_true_is_not_sound() {
        let mut sound = Manifest::new("r".to_owned(), parameters());
        sound.add(part(0, 10));
        let changes: [fn(&mut Manifest<TestKind>); 6] = [
            |manifest| manifest.complete = true,
            |manifest| manifest.rows = 9,
            |manifest| manifest.parts[0].rows = 9,
            |manifest| manifest.parts[0].first_row = 30,
            |manifest| manifest.parts[0].file = "../part-00000.parquet".to_owned(),
            |manifest| manifest.parameters.rows_per_part = 0,
        ];
        for (at, change) in changes.iter().enumerate() {
            let mut manifest = sound.clone();
            change(&mut manifest);
            assert!(!manifest.is_sound(), "change {at}");
        }
    }

    #[test]
    fn every_parameter_decides_whether_a_run_may_be_resumed() {
        type Change = (Parameter, fn(&mut TestParameters));
        let changes: [Change; 3] = [
            (Parameter::Key, |asked| asked.key_arn = "arn:b".to_owned()),
            (Parameter::KeySpec, |asked| asked.kind.spec = "b".to_owned()),
            (Parameter::RowsPerPart, |asked| asked.rows_per_part = 11),
        ];
        for (name, change) in changes {
            let mut asked = parameters();
            change(&mut asked);
            let refusal = parameters().permit(&asked);
            assert!(
                matches!(refusal, Err(JobError::Mismatch { parameter, .. }) if parameter == name)
            );
        }
        // Another name for the same key is the same key; an unresolved name is compared as it
        // stands.
        let mut asked = parameters();
        asked.key = "alias/b".to_owned();
        assert!(parameters().permit(&asked).is_ok());
        asked.key_arn.clear();
        assert!(parameters().permit(&asked).is_err());
        asked.key = "arn:a".to_owned();
        assert!(parameters().permit(&asked).is_ok());
    }

    #[test]
    fn part_names_are_read_back_strictly() {
        for name in ["part-00017.parquet", "a=1/b=2/part-00017.parquet"] {
            assert_eq!(part_number(name), Some(17));
        }
        let faulty = "part-17.parquet part-+0017.parquet part-00017 x /part-00017.parquet a/part-00017.parquet";
        for name in faulty.split(' ') {
            assert_eq!(part_number(name), None, "{name}");
        }
    }
}
