//! Provisioning: the users' own table of containers, and beside each row a wrapped data key that is
//! bound to that row's encryption context.
//!
//! ```text
//! files ─► table::scan ─► plan ─┬─► part: rows ─► contexts ─► bind ─► the same rows and seven columns
//!           ids, contexts,      ├─► part                      store or daemon
//!           duplicates          └─► part
//! ```
//!
//! A job as `bulk` has it. Everything that can be refused without a key is refused, or left out,
//! before the first key is made; which rows are in which part is fixed then, so that a job that is
//! resumed makes the parts that are missing and no other, and every container has one key, however
//! often the job died.

pub mod bind;
mod binding;
mod rejects;
mod scene;
mod standard_input;

pub use bind::Bind;

use crate::bulk::folder::{INPUT, PLAN};
use crate::bulk::footer::{self, Said};
use crate::bulk::input::File;
use crate::bulk::keys::KeySource;
use crate::bulk::parquet::properties::column;
use crate::bulk::{self, Folder, JobError, Kind, Parameter, Runtime, TableJob};
use crate::columns::{ContextPairs, names};
use crate::context::EncryptionContext;
use crate::key::data_key::DataKeyLength;
use crate::table::fields::{self, Fields};
use crate::table::folders;
use crate::table::scan::Question;
use crate::table::{Format, Location, Object, TableError};
use arrow_schema::SchemaRef;
use encoding_rs::Encoding;
use scene::Scene;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Read;

/// What to provision.
pub struct Plan {
    /// What every job that reads a table is asked.
    pub job: TableJob,
    /// The length of every data key.
    pub length: DataKeyLength,
    /// The table's format; `None` takes what the names of its files say.
    pub format: Option<Format>,
    /// The encoding of CSV; `None` is UTF-8.
    pub encoding: Option<&'static Encoding>,
    /// The column of container ids: each names one container.
    pub id_column: String,
    /// What each row's context is made of.
    pub pairs: ContextPairs,
    /// Whether rows that cannot be used are left out.
    pub skip: bool,
    /// Whether each row's context is written as a map as well.
    pub context_map: bool,
}

/// What decides the rows of a job, beside what all jobs have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// `AES_256`, `AES_128`, or `BYTES_<n>`.
    pub key_spec: String,
    /// The format of the table.
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
}

impl Kind for Parameters {
    const FORMAT: &'static str = "keymill-provision/2";

    fn arguments(&self) -> Vec<(Parameter, String)> {
        let encoding = self.encoding.as_deref().unwrap_or("UTF-8");
        vec![
            (Parameter::KeySpec, self.key_spec.clone()),
            (Parameter::Format, self.format.name().to_owned()),
            (Parameter::Encoding, encoding.to_owned()),
            (Parameter::IdColumn, self.id_column.clone()),
            (Parameter::Context, names::list(&self.context_columns)),
            (
                Parameter::Constants,
                format!("{:?}", self.context_constants),
            ),
            (Parameter::OnError, self.on_error.clone()),
            (Parameter::ContextMap, self.context_map.to_string()),
        ]
    }
}

/// What decides the rows of a job.
pub type Decided = bulk::Parameters<Parameters>;
/// How a job ended.
pub type Outcome = bulk::Outcome<Parameters>;

/// The columns of a job.
const COLUMNS: [&str; 7] = [
    column::CONTAINER_ID,
    column::KEY_ARN,
    column::KEY_MATERIAL_ID,
    column::KEY_SPEC,
    column::ENCRYPTION_CONTEXT,
    column::CIPHERTEXT_BLOB,
    column::CREATED_AT,
];
/// Those that are the same in every row of a part.
const CONSTANT: [&str; 4] = [
    column::KEY_ARN,
    column::KEY_MATERIAL_ID,
    column::KEY_SPEC,
    column::CONTEXT_NAMES,
];

/// Runs `plan` to its end, or on from where an earlier run of it ended. `input` is read where
/// standard input is the table.
///
/// # Errors
/// [`JobError`]; every part in the folder is whole, and the same call resumes the job.
pub fn run<S: KeySource<Operation = Bind>>(
    plan: &Plan,
    source: &S,
    input: impl Read,
    runtime: &Runtime<'_>,
) -> Result<Outcome, JobError> {
    bulk::in_folder(
        &plan.job.out,
        &plan.job.inputs,
        &[PLAN, INPUT],
        runtime,
        |folder, job| {
            let mut parameters = plan.parameters(source.key_arn(), job.held())?;
            if job.is_complete() {
                if plan.job.inputs == [Location::Input] {
                    standard_input::check_finished(&parameters.files, input)?;
                }
                plan.job.check_finished(&parameters, plan.format)?;
                return job.found_finished(parameters, runtime);
            }
            let (objects, files) = plan.objects(folder, job.held().is_some(), input)?;
            let names = objects.iter().map(|object| object.name.as_str());
            parameters.kind.format = Format::of_all(plan.format, names)?;
            if plan.encoding.is_some() && parameters.kind.format != Format::Csv {
                return Err(TableError::Encoding(parameters.kind.format.name()).into());
            }
            let scene = Scene {
                plan,
                objects: &objects,
                source,
                runtime,
            };
            let kept = scene.look_at(folder, &job, &mut parameters, files)?;
            match parameters.kind.format {
                Format::Parquet => scene.splice(job, parameters, &kept),
                _ => scene.encode(job, parameters, &kept),
            }
        },
    )
}

impl Plan {
    fn question(&self) -> Question<'_> {
        Question {
            id_column: &self.id_column,
            pairs: &self.pairs,
            skip: self.skip,
        }
    }

    /// The parameters that the caller asks for. Those that depend on the table are taken from an
    /// earlier run.
    fn parameters(
        &self,
        key_arn: Option<&str>,
        held: Option<&Decided>,
    ) -> Result<Decided, JobError> {
        // A new job replaces this guess once it has listed its files.
        let format = match (held, self.format) {
            (_, Some(format)) => format,
            (Some(held), None) => held.kind.format,
            (None, None) => Format::Parquet,
        };
        let kind = Parameters {
            key_spec: self.length.spec(),
            format,
            encoding: self.encoding.map(|encoding| encoding.name().to_owned()),
            id_column: self.id_column.clone(),
            context_columns: self.pairs.columns.clone(),
            context_constants: self.pairs.constants.iter().cloned().collect(),
            on_error: if self.skip { "skip" } else { "stop" }.to_owned(),
            context_map: self.context_map,
        };
        self.job.parameters(kind, key_arn, held)
    }

    /// The columns that the caller has named, but for those of a file's folders.
    fn named_columns(&self, file: &Object) -> SchemaRef {
        let mut fields = Fields::default();
        for name in [&self.id_column].into_iter().chain(&self.pairs.columns) {
            if !file.folders.names().any(|folder| folder == name) {
                fields.add(name, fields::Kind::Text);
            }
        }
        fields.schema()
    }

    /// What every part says.
    fn said(&self, parameters: &Decided) -> Said {
        let ContextPairs { columns, constants } = &self.pairs;
        let mut said = Said::new(self.length.spec(), columns, constants);
        said.footer
            .push((footer::ID_COLUMN, self.id_column.clone()));
        said.footer.extend(footer::of_folders(&parameters.folders));
        said
    }

    /// The table's files, and what the job remembers of them.
    fn objects(
        &self,
        folder: &Folder,
        is_resumed: bool,
        input: impl Read,
    ) -> Result<(Vec<Object>, Vec<File>), JobError> {
        let TableJob {
            inputs,
            folder_names,
            out,
            runtime,
            ..
        } = &self.job;
        if inputs.contains(&Location::Input) {
            if inputs.len() > 1 {
                return Err(TableError::Location {
                    location: "-".to_owned(),
                    reason: "standard input is a table by itself".to_owned(),
                }
                .into());
            }
            let (mut object, file) = standard_input::kept(folder, is_resumed, input)?;
            object.encoding = self.encoding;
            return Ok((vec![object], vec![file]));
        }
        let mut objects = Vec::new();
        for location in inputs {
            objects.extend(location.objects(self.format, runtime)?);
        }
        folders::find(&mut objects, *folder_names)?;
        folders::put_below(out.path(), &mut objects, *folder_names)?;
        for object in &mut objects {
            object.encoding = self.encoding;
        }
        let files = objects.iter().map(File::from).collect();
        Ok((objects, files))
    }

    /// The columns that the job adds: the id only where no column of the table has this name, and
    /// the context only where it is asked for, since columns of the table have it.
    fn own_columns(&self) -> Vec<&'static str> {
        let is_written = |name: &&str| *name != column::ENCRYPTION_CONTEXT || self.context_map;
        self.reserved_names().filter(is_written).collect()
    }

    /// The names that no other column of the table has: readers of the parts rely on them.
    fn reserved_names(&self) -> impl Iterator<Item = &'static str> {
        let has_id = self.id_column == column::CONTAINER_ID;
        let names = COLUMNS.into_iter();
        names.filter(move |name| !has_id || *name != column::CONTAINER_ID)
    }

    /// The names of every row's context.
    fn context_names(&self) -> EncryptionContext {
        let constants = self.pairs.constants.iter().map(|(name, _)| name);
        let names = self.pairs.columns.iter().chain(constants);
        EncryptionContext::from_pairs(names.map(|name| (name.as_str(), ""))).unwrap_or_default()
    }
}
