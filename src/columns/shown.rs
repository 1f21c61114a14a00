//! How messages name columns, values and types. Names and values come from outside and may be of
//! any length; a message is not.

use arrow_schema::{DataType, TimeUnit};
use std::fmt;

/// Characters of a name or a value that a message has at most.
const NAME_CHARACTERS_MAX: usize = 128;
/// Characters of a type that a message has at most: it may have names, and types within types.
const TYPE_CHARACTERS_MAX: usize = 256;

/// A name or a value in quotes, cut where it is too long.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match end(self.0, NAME_CHARACTERS_MAX) {
            Some(end) => write!(out, "{:?}…", &self.0[..end]),
            None => write!(out, "{:?}", self.0),
        }
    }
}

/// How many of a thing there are, in words: `1 row`, `2 rows`.
#[derive(Clone, Copy, Debug)]
pub struct Counted(
    /// How many.
    pub u64,
    /// What one of them is called, by a noun that takes an `s`.
    pub &'static str,
);

impl fmt::Display for Counted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, noun) = self;
        let ending = if *count == 1 { "" } else { "s" };
        write!(out, "{count} {noun}{ending}")
    }
}

/// The text, cut where it has more than so many characters.
#[must_use]
pub fn cut(mut text: String, characters_max: usize) -> String {
    if let Some(end) = end(&text, characters_max) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Where the text is cut, if it is too long.
fn end(text: &str, characters_max: usize) -> Option<usize> {
    text.char_indices().nth(characters_max).map(|(end, _)| end)
}

/// A type as Parquet has it, of columns of Arrow too.
#[must_use]
pub fn kind(of: &DataType) -> String {
    cut(whole(of), TYPE_CHARACTERS_MAX)
}

fn whole(of: &DataType) -> String {
    let unit = |unit: &TimeUnit| match unit {
        TimeUnit::Second => "SECONDS",
        TimeUnit::Millisecond => "MILLIS",
        TimeUnit::Microsecond => "MICROS",
        TimeUnit::Nanosecond => "NANOS",
    };
    match of {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "INT8".to_owned(),
        DataType::Int16 => "INT16".to_owned(),
        DataType::Int32 => "INT32".to_owned(),
        DataType::Int64 => "INT64".to_owned(),
        DataType::UInt8 => "UINT8".to_owned(),
        DataType::UInt16 => "UINT16".to_owned(),
        DataType::UInt32 => "UINT32".to_owned(),
        DataType::UInt64 => "UINT64".to_owned(),
        DataType::Float16 => "FLOAT16".to_owned(),
        DataType::Float32 => "FLOAT".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTE_ARRAY".to_owned(),
        DataType::FixedSizeBinary(bytes) => format!("FIXED_LEN_BYTE_ARRAY({bytes})"),
        DataType::Date32 | DataType::Date64 => "DATE".to_owned(),
        DataType::Time32(of) | DataType::Time64(of) => format!("TIME({})", unit(of)),
        DataType::Timestamp(of, None) => format!("TIMESTAMP({})", unit(of)),
        DataType::Timestamp(of, Some(_)) => format!("TIMESTAMP({}, UTC)", unit(of)),
        DataType::Interval(_) => "INTERVAL".to_owned(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::FixedSizeList(element, _) => format!("LIST({})", whole(element.data_type())),
        DataType::Map(entry, _) => match entry.data_type() {
            DataType::Struct(pair) => {
                let pair: Vec<_> = pair.iter().map(|side| whole(side.data_type())).collect();
                format!("MAP({})", pair.join(", "))
            }
            _ => "MAP".to_owned(),
        },
        DataType::Struct(fields) => {
            let fields = fields.iter();
            let fields: Vec<_> = fields
                .map(|field| format!("{} {}", Shown(field.name()), whole(field.data_type())))
                .collect();
            format!("GROUP({})", fields.join(", "))
        }
        DataType::Dictionary(_, values) => whole(values),
        // What Arrow alone has.
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_schema::Field;
    use std::sync::Arc;

    #[test]
    fn a_long_name_is_cut() {
        assert_eq!(Shown("a\"\n").to_string(), r#""a\"\n""#);
        let most = "é".repeat(NAME_CHARACTERS_MAX);
        assert_eq!(Shown(&most).to_string(), format!("\"{most}\""));
        let more = most.clone() + "é";
        assert_eq!(Shown(&more).to_string(), format!("\"{most}\"…"));
        assert_eq!(cut("éé".to_owned(), 2), "éé");
        assert_eq!(cut("ééé".to_owned(), 2), "éé…");
    }

    #[test]
    fn types_have_the_names_of_parquet() {
        let list = |of| DataType::List(Arc::new(Field::new("element", of, false)));
        for (of, name) in [
            (list(DataType::Int64), "LIST(INT64)"),
            (DataType::Utf8View, "STRING"),
            (DataType::BinaryView, "BYTE_ARRAY"),
            (
                DataType::Timestamp(TimeUnit::Microsecond, None),
                "TIMESTAMP(MICROS)",
            ),
            (DataType::Decimal128(10, 2), "DECIMAL(10, 2)"),
            (
                DataType::Struct([Arc::new(Field::new("a", DataType::Date32, true))].into()),
                "GROUP(\"a\" DATE)",
            ),
            (
                DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
                "STRING",
            ),
        ] {
            assert_eq!(kind(&of), name);
        }
        let mut deep = DataType::Int64;
        for _ in 0..1000 {
            deep = list(deep);
        }
        assert!(kind(&deep).chars().count() <= TYPE_CHARACTERS_MAX + 1);
    }
}
