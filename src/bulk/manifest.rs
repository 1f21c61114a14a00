//! The manifest of a job: its parameters, and the parts that are finished.

use crate::bulk::JobError;
use crate::bulk::parameter::Parameter;
use crate::bulk::part_folders::{self, PartFolders};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The program that wrote the job.
pub const SOFTWARE: &str = concat!("keymill ", env!("CARGO_PKG_VERSION"));

/// `_manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest<P> {
    /// [`Parameters::FORMAT`].
    pub format: String,
    /// [`SOFTWARE`] of the job's beginning.
    pub software: String,
    /// 32 hex digits that only this job has; every part carries them.
    pub run: String,
    /// The parameters that the caller gave.
    pub parameters: P,
    /// Whether every row is there.
    pub complete: bool,
    /// Rows of all parts.
    pub rows: u64,
    /// Bytes of all parts.
    pub bytes: u64,
    /// The finished parts, by first row.
    pub parts: Vec<Part>,
}

/// What decides the rows of a job; it is resumed only with the same.
pub trait Parameters: Clone + Serialize + DeserializeOwned + Send + Sync {
    /// The layout of the folder and of its manifest.
    const FORMAT: &'static str;

    /// Rows in all.
    fn count(&self) -> u64;

    /// Rows of the input that are left out of the job.
    fn left_out(&self) -> u64 {
        0
    }

    /// Rows of every part but the last; where parts are listed, how many each has about.
    fn rows_per_part(&self) -> u64;

    /// The key that new blobs are under, as the caller named it.
    fn key(&self) -> &str;

    /// What this name meant; empty until that is known.
    fn key_arn(&self) -> &str;

    /// Notes what it meant.
    fn set_key_arn(&mut self, arn: String);

    /// Every other argument with its value, in the order in which differences are reported.
    fn arguments(&self) -> Vec<(Parameter, String)>;

    /// Which rows are in which part.
    fn parts(&self) -> Parts<'_> {
        Parts::Even {
            count: self.count(),
            rows_per_part: self.rows_per_part(),
        }
    }

    /// The folders that its parts are in, where they are not all in the job's own.
    fn folders(&self) -> Option<&PartFolders> {
        None
    }

    /// The file of a part, from the job's folder on.
    fn part_file(&self, number: u64) -> String {
        let file = part_file(number);
        match self.folders().map(|folders| folders.of(number)) {
            None | Some("") => file,
            Some(folder) => format!("{folder}/{file}"),
        }
    }

    /// Whether a job with these may be resumed by one with `asked`.
    ///
    /// # Errors
    /// [`JobError::Mismatch`], which names the first difference.
    fn permit(&self, asked: &Self) -> Result<(), JobError> {
        let (key_here, key_asked) = keys(self, asked);
        let here = [(Parameter::Key, key_here.to_owned())];
        let asked = [(Parameter::Key, key_asked.to_owned())]
            .into_iter()
            .chain(asked.arguments());
        let mut both = here.into_iter().chain(self.arguments()).zip(asked);
        match both.find(|((_, here), (_, asked))| here != asked) {
            None => Ok(()),
            Some(((parameter, here), (_, asked))) => Err(JobError::Mismatch {
                parameter,
                here,
                asked,
            }),
        }
    }
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
            } => count.div_ceil(rows_per_part.max(1)),
            Self::Listed(ends) => ends.len() as u64,
        }
    }

    /// The rows of part `number`, if there is one: at least one row.
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
        (rows.start < rows.end).then_some(rows)
    }
}

/// The names of the keys to compare. Two names of one key are equal; an unresolved name is compared
/// as text.
fn keys<'a, P: Parameters>(here: &'a P, asked: &'a P) -> (&'a str, &'a str) {
    if !asked.key_arn().is_empty() && !here.key_arn().is_empty() {
        (here.key_arn(), asked.key_arn())
    } else if asked.key() == here.key_arn() {
        (here.key_arn(), asked.key())
    } else {
        (here.key(), asked.key())
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

impl<P: Parameters> Manifest<P> {
    /// A job that has no parts yet.
    #[must_use]
    pub fn new(run: String, parameters: P) -> Self {
        Self {
            format: P::FORMAT.to_owned(),
            software: SOFTWARE.to_owned(),
            run,
            complete: parameters.count() == 0,
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
        self.complete = self.rows == self.parameters.count();
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
        let (count, parts) = (self.parameters.count(), self.parameters.parts());
        let part = |part: &Part| {
            let Some(number) = part_number(&part.file) else {
                return false;
            };
            let (rows, end) = (parts.rows(number), part.first_row.checked_add(part.rows));
            rows.is_some_and(|rows| (rows.start, Some(rows.end)) == (part.first_row, end))
                && self.parameters.part_file(number) == part.file
        };
        let folders = self.parameters.folders();
        folders.is_none_or(PartFolders::are_sound)
            && self.parts.iter().all(part)
            && self
                .parts
                .windows(2)
                .all(|pair| pair[0].first_row < pair[1].first_row)
            && self.rows == self.parts.iter().map(|part| part.rows).sum::<u64>()
            && self.bytes == self.parts.iter().map(|part| part.bytes).sum::<u64>()
            && self.complete == (self.rows == count)
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

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct TestParameters {
        key: String,
        key_arn: String,
        count: u64,
        rows_per_part: u64,
    }

    impl Parameters for TestParameters {
        const FORMAT: &'static str = "test/1";

        fn count(&self) -> u64 {
            self.count
        }

        fn rows_per_part(&self) -> u64 {
            self.rows_per_part
        }

        fn key(&self) -> &str {
            &self.key
        }

        fn key_arn(&self) -> &str {
            &self.key_arn
        }

        fn set_key_arn(&mut self, arn: String) {
            self.key_arn = arn;
        }

        fn arguments(&self) -> Vec<(Parameter, String)> {
            vec![
                (Parameter::Count, self.count.to_string()),
                (Parameter::RowsPerPart, self.rows_per_part.to_string()),
            ]
        }
    }

    fn parameters() -> TestParameters {
        TestParameters {
            key: "alias/a".to_owned(),
            key_arn: "arn:a".to_owned(),
            count: 25,
            rows_per_part: 10,
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
        let changes: [fn(&mut Manifest<TestParameters>); 6] = [
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
            (Parameter::Count, |asked| asked.count = 26),
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
