//! One value of a line, as the text that the file has for it. It becomes a number only where no
//! digit is lost.

use crate::table::fields::Kind;
use arrow_schema::DataType;
use std::borrow::Cow;

/// Beyond it, not every whole number is a float.
const FLOAT_INTEGER_MAX: u64 = 1 << 53;

/// A value, as its column has it.
#[derive(Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(Cow<'a, str>),
}

/// What a value is. `raw` is sound JSON.
pub(super) fn kind(raw: &str) -> Kind {
    match raw.as_bytes().first() {
        Some(b'n') => Kind::Null,
        Some(b't' | b'f') => Kind::Boolean,
        Some(b'-' | b'0'..=b'9') => kind_of_number(raw),
        _ => Kind::Text,
    }
}

fn kind_of_number(raw: &str) -> Kind {
    if let Ok(integer) = raw.parse::<i64>() {
        return match integer.unsigned_abs() {
            0 if raw.starts_with('-') => Kind::Float,
            0..=FLOAT_INTEGER_MAX => Kind::Integer,
            _ => Kind::LongInteger,
        };
    }
    let is_whole = !raw.contains(['.', 'e', 'E']);
    match raw.parse::<f64>() {
        // The fewest digits that mean this float are the digits of the file.
        Ok(float) if !is_whole && float.is_finite() => {
            if Decimal::of(raw) == Decimal::of(&format!("{float:e}")) {
                Kind::Float
            } else {
                Kind::Text
            }
        }
        _ => Kind::Text,
    }
}

/// A number as `0.<digits> × 10^exponent`, without zeros at the ends; no digits for zero.
#[derive(PartialEq)]
struct Decimal {
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// `None` for an exponent that no float has.
    fn of(text: &str) -> Option<Self> {
        let text = text.trim_start_matches('-');
        let (significand, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = significand.split_once('.').unwrap_or((significand, ""));
        let all = format!("{whole}{fraction}");
        let digits = all.trim_start_matches('0');
        let leading = i64::try_from(all.len() - digits.len()).ok()?;
        let exponent = exponent.parse::<i64>().ok()?;
        let digits = digits.trim_end_matches('0').to_owned();
        let exponent = match digits.as_str() {
            "" => 0,
            _ => exponent.checked_add(i64::try_from(whole.len()).ok()? - leading)?,
        };
        Some(Self { digits, exponent })
    }
}

/// The value for a column of this type; `None` if it is of another kind.
pub(super) fn cell<'a>(raw: &'a str, column: &DataType) -> Option<Cell<'a>> {
    let is_string = raw.starts_with('"');
    Some(match column {
        _ if raw == "null" => Cell::Null,
        DataType::Boolean => Cell::Boolean(raw.parse().ok()?),
        DataType::Int64 => Cell::Integer(raw.parse().ok()?),
        DataType::Float64 if !is_string => Cell::Float(raw.parse().ok()?),
        DataType::Utf8 if is_string => Cell::Text(text(raw)?),
        DataType::Utf8 => Cell::Text(Cow::Borrowed(raw)),
        _ => return None,
    })
}

/// The text of a string; `None` for one that is not Unicode, such as half of a surrogate pair.
pub(super) fn text(raw: &str) -> Option<Cow<'_, str>> {
    let inside = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') {
        return serde_json::from_str(raw).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_one_where_no_digit_is_lost() {
        for (raw, expected) in [
            ("0", Kind::Integer),
            ("-7", Kind::Integer),
            ("9007199254740992", Kind::Integer),
            ("9007199254740993", Kind::LongInteger),
            ("-9223372036854775808", Kind::LongInteger),
            ("9223372036854775808", Kind::Text),
            ("12345678901234567890123", Kind::Text),
            ("-0", Kind::Float),
            ("-0.0", Kind::Float),
            ("0.1", Kind::Float),
            ("1.10", Kind::Float),
            ("1e5", Kind::Float),
            ("100000.0", Kind::Float),
            ("1E+2", Kind::Float),
            ("0.8444218515250481", Kind::Float),
            ("5e-324", Kind::Float),
            ("1.7976931348623157e308", Kind::Float),
            ("0.30000000000000001", Kind::Text),
            ("1.23456789012345678901", Kind::Text),
            ("1e400", Kind::Text),
            ("1e-400", Kind::Text),
            ("1e99999999999999999999", Kind::Text),
            ("true", Kind::Boolean),
            ("null", Kind::Null),
            ("\"1\"", Kind::Text),
            ("[1]", Kind::Text),
        ] {
            assert_eq!(kind(raw), expected, "{raw}");
        }
    }

    #[test]
    fn a_value_of_another_kind_than_its_column_is_told() {
        for (raw, column, expected) in [
            ("null", DataType::Int64, Some(Cell::Null)),
            ("7", DataType::Float64, Some(Cell::Float(7.0))),
            ("7.5", DataType::Int64, None),
            ("\"7\"", DataType::Float64, None),
            ("1", DataType::Boolean, None),
            ("1.10", DataType::Utf8, Some(Cell::Text("1.10".into()))),
            (
                r#"{"b":1, "a":1e5}"#,
                DataType::Utf8,
                Some(Cell::Text(r#"{"b":1, "a":1e5}"#.into())),
            ),
            (r#""\u00e9""#, DataType::Utf8, Some(Cell::Text("é".into()))),
            (r#""\ud800""#, DataType::Utf8, None),
        ] {
            assert_eq!(cell(raw, &column), expected, "{raw} {column}");
        }
    }

    proptest::proptest! {
        /// Every float that another program has written with the digits it needs is a float, and
        /// the same one.
        #[test]
        fn what_others_write_of_a_float_is_that_float(bits: u64) {
            let float = f64::from_bits(bits);
            if float.is_finite() {
                for text in [format!("{float:?}"), format!("{float:e}")] {
                    let whole = !text.contains(['.', 'e']);
                    proptest::prop_assert!(whole || kind(&text) == Kind::Float, "{text}");
                    let read = cell(&text, &DataType::Float64);
                    proptest::prop_assert_eq!(read, Some(Cell::Float(float)));
                }
            }
        }
    }
}
