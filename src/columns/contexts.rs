//! The encryption contexts of rows that have blobs: a column of maps, or columns whose names are
//! those of the pairs.

use crate::columns::error::ColumnError;
use crate::columns::pairs::{ContextPairs, Rows};
use crate::columns::shown::{Shown, kind};
use crate::columns::texts::Texts;
use crate::context::EncryptionContext;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, MapArray, RecordBatch};
use arrow_schema::{DataType, Schema};

/// Where contexts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextSource {
    /// In a column of maps of text to text.
    Map(String),
    /// In columns of text, and constants.
    Pairs(ContextPairs),
}

impl ContextSource {
    /// The columns that are read.
    #[must_use]
    pub fn columns(&self) -> Vec<String> {
        match self {
            Self::Map(column) => vec![column.clone()],
            Self::Pairs(pairs) => pairs.columns.clone(),
        }
    }

    /// Refuses columns that are not there, or of another type.
    ///
    /// # Errors
    /// Which column is missing or of a type that cannot be used.
    pub fn check(&self, schema: &Schema) -> Result<(), String> {
        match self {
            Self::Map(name) => match schema.field_with_name(name) {
                Ok(field) if matches!(field.data_type(), DataType::Map(..)) => Ok(()),
                Ok(field) => Err(format!(
                    "column {} is of type {}, and contexts are a map of strings",
                    Shown(name),
                    kind(field.data_type())
                )),
                Err(_) => Err(format!(
                    "there is no column {}; name the columns of the contexts",
                    Shown(name)
                )),
            },
            Self::Pairs(pairs) => {
                let places = pairs.places(schema);
                places.map(drop).map_err(|error| error.to_string())
            }
        }
    }

    /// The contexts of some rows.
    ///
    /// # Errors
    /// Which column is missing or of a type that cannot be used.
    pub fn of<'a>(&'a self, rows: &'a RecordBatch) -> Result<Contexts<'a>, String> {
        match self {
            Self::Map(name) => {
                let column = rows.column_by_name(name);
                let maps = column
                    .and_then(|column| column.as_map_opt())
                    .ok_or_else(|| format!("there is no column {} of maps", Shown(name)))?;
                Ok(Contexts::Map {
                    names: Texts::of(maps.keys()).ok_or_else(|| not_text(name, maps.keys()))?,
                    values: Texts::of(maps.values())
                        .ok_or_else(|| not_text(name, maps.values()))?,
                    maps,
                })
            }
            Self::Pairs(pairs) => {
                let told = |error: ColumnError| error.to_string();
                let places = pairs.places(&rows.schema()).map_err(told)?;
                Ok(Contexts::Pairs(pairs.rows(rows, &places).map_err(told)?))
            }
        }
    }
}

fn not_text(name: &str, column: &ArrayRef) -> String {
    let (name, kind) = (Shown(name), kind(column.data_type()));
    format!("column {name} has maps of type {kind}, and contexts are strings")
}

/// The contexts of some rows.
pub enum Contexts<'a> {
    /// Of a column of maps.
    Map {
        /// The maps.
        maps: &'a MapArray,
        /// Names of all pairs of all maps.
        names: Texts<'a>,
        /// Their values.
        values: Texts<'a>,
    },
    /// Of columns.
    Pairs(Rows<'a>),
}

impl Contexts<'_> {
    /// The context of a row.
    ///
    /// # Errors
    /// Why the row has no context.
    pub fn of(&self, row: usize) -> Result<EncryptionContext, String> {
        match self {
            Self::Map {
                maps,
                names,
                values,
            } => {
                if maps.is_null(row) {
                    return Err("its context is null".to_owned());
                }
                let offsets = maps.value_offsets();
                let at =
                    |number: usize| offsets.get(number).and_then(|at| usize::try_from(*at).ok());
                let (from, end) = at(row).zip(at(row + 1)).unwrap_or_default();
                let mut pairs = Vec::with_capacity(end.saturating_sub(from));
                for at in from..end {
                    let pair = names.text(at).zip(values.text(at));
                    pairs.push(pair.ok_or_else(|| "a pair of its context is null".to_owned())?);
                }
                EncryptionContext::from_pairs(pairs).map_err(|error| error.to_string())
            }
            Self::Pairs(rows) => {
                let context = rows.context(row);
                context.map_err(|error| error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::StringArray;
    use arrow_array::builder::{MapBuilder, StringBuilder};
    use std::sync::Arc;

    fn maps() -> RecordBatch {
        let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for (name, value) in [("b", Some("2")), ("a", Some("1"))] {
            maps.keys().append_value(name);
            maps.values().append_option(value);
        }
        maps.append(true).unwrap();
        maps.append(false).unwrap();
        maps.append(true).unwrap();
        maps.keys().append_value("a");
        maps.values().append_null();
        maps.append(true).unwrap();
        for value in ["1", "2"] {
            maps.keys().append_value("a");
            maps.values().append_value(value);
        }
        maps.append(true).unwrap();
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["x"; 5]));
        let maps: ArrayRef = Arc::new(maps.finish());
        RecordBatch::try_from_iter([("context", maps), ("text", texts)]).unwrap()
    }

    #[test]
    fn a_map_is_a_context_also_in_a_part_of_a_batch() {
        let (batch, source) = (maps(), ContextSource::Map("context".to_owned()));
        assert_eq!(source.check(&batch.schema()), Ok(()));
        let expected = EncryptionContext::from_pairs([("a", "1"), ("b", "2")]).unwrap();
        let contexts = source.of(&batch).unwrap();
        assert_eq!(contexts.of(0).as_ref(), Ok(&expected));
        for (row, said) in [
            (1, "its context is null"),
            (3, "a pair"),
            (4, "names each pair once"),
        ] {
            let refused = contexts.of(row).unwrap_err();
            assert!(refused.contains(said), "{row}: {refused}");
        }
        let part = batch.slice(2, 2);
        let contexts = source.of(&part).unwrap();
        assert_eq!(contexts.of(0), Ok(EncryptionContext::default()));
        assert!(contexts.of(1).is_err());
    }

    #[test]
    fn a_column_of_another_type_is_refused() {
        let batch = maps();
        for (name, said) in [
            ("text", "is of type STRING"),
            ("none", "there is no column"),
        ] {
            let source = ContextSource::Map(name.to_owned());
            assert!(source.check(&batch.schema()).unwrap_err().contains(said));
            assert!(source.of(&batch).is_err());
        }
        let pairs = ContextPairs {
            columns: vec!["text".to_owned()],
            ..ContextPairs::default()
        };
        let source = ContextSource::Pairs(pairs);
        let contexts = source.of(&batch).unwrap();
        let expected = EncryptionContext::from_pairs([("text", "x")]).unwrap();
        assert_eq!(contexts.of(0), Ok(expected));
        assert_eq!(source.columns(), ["text"]);
    }
}
