//! What a part says of itself, in its footer, beside what its job adds.

use crate::bulk::manifest::SOFTWARE as OURS;
use crate::bulk::part_folders::PartFolders;
use crate::bulk::source::KeyIdentity;
use crate::bulk::{JobError, Kind, Ledger, Task};
use serde_json::json;
use std::collections::BTreeMap;

/// The program that wrote it.
pub const SOFTWARE: &str = "keymill.software";
/// The job that it is of.
pub const RUN: &str = "keymill.run";
/// The number of its first row.
pub const FIRST_ROW: &str = "keymill.first_row";
/// The KMS key.
pub const KEY_ARN: &str = "keymill.key_arn";
/// The generation of its material.
pub const KEY_MATERIAL_ID: &str = "keymill.key_material_id";
/// The length of its data keys.
pub const KEY_SPEC: &str = "keymill.key_spec";
/// The pairs of every row's context, as a JSON object.
pub const CONTEXT_CONSTANTS: &str = "keymill.context_constants";
/// The columns of every row's context, as a JSON array.
pub const CONTEXT_COLUMNS: &str = "keymill.context_columns";
/// The column that a container's id is in.
pub const ID_COLUMN: &str = "keymill.id_column";

/// The columns that are in the names of the part's folders, as a JSON array.
pub const FOLDER_COLUMNS: &str = "keymill.folder_columns";

/// What a part says of the folders that it is in.
#[must_use]
pub fn of_folders(folders: &PartFolders) -> Option<(&'static str, String)> {
    let columns = &folders.columns;
    (!columns.is_empty()).then(|| (FOLDER_COLUMNS, json!(columns).to_string()))
}

/// What a job says in every part, beside what all jobs say.
#[derive(Default)]
pub struct Said {
    /// `AES_256`, `AES_128`, or `BYTES_<n>`.
    pub key_spec: String,
    /// Pairs of the footer.
    pub footer: Vec<(&'static str, String)>,
}

impl Said {
    /// What the footer says of a key's spec, and of what contexts are made of.
    #[must_use]
    pub fn new(key_spec: String, columns: &[String], constants: &[(String, String)]) -> Self {
        let constants: BTreeMap<_, _> = constants.iter().cloned().collect();
        let mut footer = vec![
            (CONTEXT_COLUMNS, json!(columns).to_string()),
            (CONTEXT_CONSTANTS, json!(constants).to_string()),
        ];
        if !key_spec.is_empty() {
            footer.push((KEY_SPEC, key_spec.clone()));
        }
        Self { key_spec, footer }
    }
}

/// A part whose first rows have shown its key.
pub struct Begun {
    /// The key; nothing where there are no rows.
    pub key: KeyIdentity,
    /// The length of its data keys.
    pub key_spec: String,
    /// What its footer says.
    pub footer: Vec<(&'static str, String)>,
}

impl Begun {
    /// Begins the part of `task` under `key`; one without rows is under none.
    ///
    /// # Errors
    /// As [`Ledger::begin`].
    pub fn new<K: Kind>(
        ledger: &Ledger<'_, K>,
        task: &Task,
        key: Option<KeyIdentity>,
        said: &Said,
    ) -> Result<Self, JobError> {
        let run = ledger.begin(key.as_ref())?;
        let mut footer = vec![
            (SOFTWARE, OURS.to_owned()),
            (RUN, run),
            (FIRST_ROW, task.first_row.to_string()),
        ];
        if let Some(key) = &key {
            footer.push((KEY_ARN, key.arn.clone()));
            footer.push((KEY_MATERIAL_ID, key.material_id.clone()));
        }
        footer.extend(said.footer.iter().cloned());
        Ok(Self {
            key: key.unwrap_or_default(),
            key_spec: said.key_spec.clone(),
            footer,
        })
    }
}
