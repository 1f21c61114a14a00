//! What decides the rows of a job.

use crate::bulk::{self, File, JobError, Parameter, PartFolders, Parts, footer};
use crate::columns::names;
use crate::table::{Format, Object, folders};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What decides the rows of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// The key as the caller named it.
    pub key: String,
    /// The key that this name meant.
    pub key_arn: String,
    /// `AES_256`, `AES_128`, or `BYTES_<n>`.
    pub key_spec: String,
    /// The table as the caller named it.
    pub inputs: Vec<String>,
    /// Its format.
    pub format: Format,
    /// The encoding of its text, where that is not UTF-8, by its name in the WHATWG Encoding
    /// Standard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// The column of container ids: each names one container.
    pub id_column: String,
    /// The columns of every row's context.
    pub context_columns: Vec<String>,
    /// The pairs that every row's context has.
    pub context_constants: BTreeMap<String, String>,
    /// `stop` or `skip`.
    pub on_error: String,
    /// Whether each row's context is written as a map as well.
    pub context_map: bool,
    /// Rows of every part but the last; of a Parquet table, whose parts are whole row groups, how
    /// many each has about.
    pub rows_per_part: u64,
    /// Of a Parquet table, or one in folders that are columns, for each part the number of the row
    /// behind its last.
    pub part_ends: Vec<u64>,
    /// The folders that are columns.
    #[serde(default, skip_serializing_if = "PartFolders::is_plain")]
    pub folders: PartFolders,
    /// Rows in all, without those that are left out.
    pub count: u64,
    /// Rows that are left out.
    pub left_out: u64,
    /// The files, in order.
    pub files: Vec<File>,
}

impl bulk::Parameters for Parameters {
    const FORMAT: &'static str = "keymill-provision/2";

    fn count(&self) -> u64 {
        self.count
    }

    fn left_out(&self) -> u64 {
        self.left_out
    }

    fn rows_per_part(&self) -> u64 {
        self.rows_per_part
    }

    fn parts(&self) -> Parts<'_> {
        match self.format {
            Format::Parquet => Parts::Listed(&self.part_ends),
            _ if !self.folders.columns.is_empty() => Parts::Listed(&self.part_ends),
            _ => Parts::Even {
                count: self.count,
                rows_per_part: self.rows_per_part,
            },
        }
    }

    fn folders(&self) -> Option<&PartFolders> {
        Some(&self.folders)
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
            (Parameter::KeySpec, self.key_spec.clone()),
            (Parameter::Input, self.inputs.join(" ")),
            (Parameter::Format, self.format.name().to_owned()),
            (
                Parameter::Encoding,
                self.encoding.as_deref().unwrap_or("UTF-8").to_owned(),
            ),
            (Parameter::Folders, self.folders.shown()),
            (Parameter::IdColumn, self.id_column.clone()),
            (Parameter::Context, names::list(&self.context_columns)),
            (
                Parameter::Constants,
                format!("{:?}", self.context_constants),
            ),
            (Parameter::OnError, self.on_error.clone()),
            (Parameter::ContextMap, self.context_map.to_string()),
            (Parameter::RowsPerPart, self.rows_per_part.to_string()),
        ]
    }
}

impl Parameters {
    /// Notes where parts end, and in which folders they are; an earlier run must have found the
    /// same.
    pub(super) fn cut<'a>(
        &mut self,
        held: Option<&Self>,
        objects: &'a [Object],
        ends: Vec<u64>,
        folders: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), JobError> {
        self.part_ends = ends;
        self.folders.columns = folders::names(objects);
        self.folders = std::mem::take(&mut self.folders).with(folders);
        let found = |parameters: &Self| (parameters.part_ends.clone(), parameters.folders.clone());
        match held.map(found) {
            Some(before) if before != found(self) => {
                let first = objects.first().map(|object| object.name.clone());
                Err(JobError::Changed(first.unwrap_or_default()))
            }
            _ => Ok(()),
        }
    }

    /// What the footer of every part says of them.
    pub(super) fn footer(&self) -> Vec<(&'static str, String)> {
        let constants = serde_json::json!(self.context_constants);
        let columns = serde_json::json!(self.context_columns);
        let mut said = vec![
            (footer::KEY_SPEC, self.key_spec.clone()),
            (footer::ID_COLUMN, self.id_column.clone()),
            (footer::CONTEXT_COLUMNS, columns.to_string()),
            (footer::CONTEXT_CONSTANTS, constants.to_string()),
        ];
        said.extend(footer::of_folders(&self.folders));
        said
    }
}
