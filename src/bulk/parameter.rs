//! The parameters that decide the rows of a job.

use strum::Display;

/// What a job is resumed with only if it is as it was; prints as what messages call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display)]
#[strum(serialize_all = "lowercase")]
pub enum Parameter {
    /// The KMS key.
    Key,
    /// The length of the data keys.
    #[strum(serialize = "key spec")]
    KeySpec,
    /// Rows in all.
    Count,
    /// How containers are named.
    #[strum(serialize = "id pattern")]
    IdPattern,
    /// The table.
    Input,
    /// Its format.
    Format,
    /// The encoding of its text.
    Encoding,
    /// What the names of its folders are taken for.
    #[strum(serialize = "columns of folders")]
    Folders,
    /// The column of container ids.
    #[strum(serialize = "id column")]
    IdColumn,
    /// What contexts are made of.
    Context,
    /// What contexts will be made of.
    #[strum(serialize = "new context")]
    NewContext,
    /// The pairs that every context has.
    Constants,
    /// Whether contexts are written as maps.
    #[strum(serialize = "context map")]
    ContextMap,
    /// Whether rows that cannot be used are left out.
    #[strum(serialize = "handling of bad rows")]
    OnError,
    /// Rows of a part.
    #[strum(serialize = "rows per part")]
    RowsPerPart,
}
