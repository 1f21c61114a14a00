//! How a file's rows are written.

use crate::table::{Compression, TableError};
use serde::{Deserialize, Serialize};
use strum::{EnumString, VariantNames};

/// How a file's rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, EnumString, VariantNames)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// RFC 4180, with a header.
    Csv,
    /// A JSON object a line.
    Ndjson,
}

impl Format {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Parquet => "Parquet",
            Self::Csv => "CSV",
            Self::Ndjson => "NDJSON",
        }
    }

    /// What a file's extension says; that of a compression may be behind it, where it is of text.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let (name, compression) = Compression::of(name);
        let (_, extension) = name.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "parquet" | "parq" => compression.is_none().then_some(Self::Parquet),
            "csv" => Some(Self::Csv),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            _ => None,
        }
    }

    /// The format of all of these files, which is one.
    ///
    /// # Errors
    /// [`TableError::Format`] or [`TableError::Formats`], when the names show no format, or
    /// several.
    pub fn of_all<'a>(
        asked: Option<Self>,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, TableError> {
        let mut found: Option<(Self, &str)> = asked.map(|format| (format, ""));
        if found.is_none() {
            for name in names {
                let format = Self::of(name).ok_or_else(|| TableError::Format(name.to_owned()))?;
                match found {
                    Some((first, other)) if first != format => {
                        return Err(TableError::Formats(other.to_owned(), name.to_owned()));
                    }
                    _ => found = found.or(Some((format, name))),
                }
            }
        }
        found
            .map(|(format, _)| format)
            .ok_or_else(|| TableError::Format("no file".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_told_by_the_extension_or_by_the_user() {
        for (name, format) in [
            ("a.parquet", Some(Format::Parquet)),
            ("s3://b/a.CSV", Some(Format::Csv)),
            ("a.jsonl", Some(Format::Ndjson)),
            ("a.csv.gz", Some(Format::Csv)),
            ("s3://b/a.NDJSON.zst", Some(Format::Ndjson)),
            ("a.gz.parquet", Some(Format::Parquet)),
            ("a.parquet.gz", None),
            ("a.csv.bz2", None),
            ("a.gz", None),
            ("a.json", None),
            ("parquet", None),
            ("-", None),
        ] {
            assert_eq!(Format::of(name), format, "{name}");
        }
        assert_eq!(
            Format::of_all(None, ["a.csv", "b.csv"]).ok(),
            Some(Format::Csv)
        );
        assert_eq!(
            Format::of_all(Some(Format::Ndjson), ["a", "b.csv"]).ok(),
            Some(Format::Ndjson)
        );
        let mixed = Format::of_all(None, ["a.csv", "b.parquet"]).unwrap_err();
        assert!(mixed.to_string().starts_with("a.csv and b.parquet are of"));
        let unknown = Format::of_all(None, ["a.csv", "b.txt"]).unwrap_err();
        assert!(unknown.to_string().contains("b.txt: say which"));
        assert!(Format::of_all(None, []).is_err());
        for name in Format::VARIANTS {
            assert!(name.parse::<Format>().is_ok());
        }
    }
}
