//! Whether the values of a column are what the name of a folder says, as writers that keep such a
//! column in their files (Polars, DuckDB with `WRITE_PARTITION_COLUMNS`) name their folders.

use crate::clock::calendar::midnight;
use crate::columns::Texts;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::types::{
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType};
use arrow_schema::{DataType, TimeUnit};

/// Seconds of a day.
const DAY: i64 = 24 * 60 * 60;
/// Digits of a fraction of a second at most.
const FRACTION_DIGITS_MAX: usize = 9;

/// Whether the value of a row is what the folder says.
pub(super) type Test<'a> = Box<dyn Fn(usize) -> bool + 'a>;

/// Whether columns of this type are compared.
pub(super) fn are_compared(kind: &DataType) -> bool {
    test(&arrow_array::new_empty_array(kind), None).is_some()
}

/// The test of a column's values against the text of a folder's name, or its null; `None` where
/// the type is not one that folders are named after.
pub(super) fn test<'a>(column: &'a ArrayRef, text: Option<&'a str>) -> Option<Test<'a>> {
    if let Some(texts) = Texts::of(column) {
        return Some(Box::new(move |row| texts.text(row) == text));
    }
    let whole_number = || text.and_then(|text| text.parse().ok());
    let nanoseconds = || text.and_then(nanoseconds);
    Some(match column.data_type() {
        DataType::Boolean => {
            let (values, wanted) = (column.as_boolean(), text.and_then(boolean));
            value_or_null(column, text, move |row| Some(values.value(row)) == wanted)
        }
        DataType::Int8 => number::<Int8Type>(column, text, whole_number()),
        DataType::Int16 => number::<Int16Type>(column, text, whole_number()),
        DataType::Int32 => number::<Int32Type>(column, text, whole_number()),
        DataType::Int64 => number::<Int64Type>(column, text, whole_number()),
        DataType::UInt8 => number::<UInt8Type>(column, text, whole_number()),
        DataType::UInt16 => number::<UInt16Type>(column, text, whole_number()),
        DataType::UInt32 => number::<UInt32Type>(column, text, whole_number()),
        DataType::UInt64 => number::<UInt64Type>(column, text, whole_number()),
        DataType::Date32 => {
            let days = text.and_then(seconds_of_day).map(|at| at / DAY);
            number::<Date32Type>(column, text, days.map(i128::from))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            number::<TimestampMillisecondType>(column, text, in_units(nanoseconds(), 1_000_000))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            number::<TimestampMicrosecondType>(column, text, in_units(nanoseconds(), 1000))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            number::<TimestampNanosecondType>(column, text, nanoseconds())
        }
        DataType::Decimal128(..) => {
            let values = column.as_primitive::<Decimal128Type>();
            let is_wanted = move |row| text.is_some_and(|text| values.value_as_string(row) == text);
            value_or_null(column, text, is_wanted)
        }
        _ => return None,
    })
}

fn value_or_null<'a>(
    column: &'a ArrayRef,
    text: Option<&'a str>,
    is_wanted: impl Fn(usize) -> bool + 'a,
) -> Test<'a> {
    Box::new(move |row| match column.is_null(row) {
        true => text.is_none(),
        false => is_wanted(row),
    })
}

fn number<'a, T: ArrowPrimitiveType<Native: Into<i128>>>(
    column: &'a ArrayRef,
    text: Option<&'a str>,
    wanted: Option<i128>,
) -> Test<'a> {
    let values = column.as_primitive::<T>();
    let is_wanted = move |row| Some(values.value(row).into()) == wanted;
    value_or_null(column, text, is_wanted)
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" => Some(true),
        "false" | "False" => Some(false),
        _ => None,
    }
}

/// The midnight of a day, `2026-11-29`, in seconds since the Unix epoch.
fn seconds_of_day(text: &str) -> Option<i64> {
    let mut numbers = text.splitn(3, '-').map(digits);
    midnight(numbers.next()??, numbers.next()??, numbers.next()??)
}

/// A moment, `2026-11-29 12:00:00.5`, in nanoseconds since the Unix epoch; what has no zone is in
/// UTC, and so must be what has one.
fn nanoseconds(text: &str) -> Option<i128> {
    let (day, time) = text.split_once([' ', 'T']).unwrap_or((text, "00:00:00"));
    let zones = ["Z", "+00", "+00:00", "+0000"].iter();
    let time = zones.fold(time, |time, zone| time.strip_suffix(zone).unwrap_or(time));
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    if fraction.len() > FRACTION_DIGITS_MAX {
        return None;
    }
    let fraction = digits(&format!("{fraction:0<FRACTION_DIGITS_MAX$}"))?;
    let mut parts = time.splitn(3, ':').map(digits);
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let seconds = seconds_of_day(day)? + 60 * (60 * hours + minutes) + seconds;
    Some(1_000_000_000 * i128::from(seconds) + i128::from(fraction))
}

fn in_units(nanoseconds: Option<i128>, unit: i128) -> Option<i128> {
    nanoseconds
        .filter(|nanoseconds| nanoseconds % unit == 0)
        .map(|nanoseconds| nanoseconds / unit)
}

/// A number of a few digits, without a sign.
fn digits(text: &str) -> Option<i64> {
    let is_short = (1..=FRACTION_DIGITS_MAX).contains(&text.len());
    let are_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    (is_short && are_digits).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{
        BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, StringViewArray,
        TimestampMicrosecondArray, UInt64Array,
    };
    use std::sync::Arc;

    fn are_equal(column: impl Array + 'static, text: Option<&str>) -> Vec<bool> {
        let column: ArrayRef = Arc::new(column);
        let test = test(&column, text).unwrap();
        (0..column.len()).map(test).collect()
    }

    #[test]
    fn values_are_what_their_folder_says() {
        let texts = || StringViewArray::from(vec![Some("a"), None, Some("")]);
        assert_eq!(are_equal(texts(), Some("a")), [true, false, false]);
        assert_eq!(are_equal(texts(), None), [false, true, false]);
        let numbers = || Int32Array::from(vec![Some(7), None, Some(-7)]);
        assert_eq!(are_equal(numbers(), Some("7")), [true, false, false]);
        assert_eq!(are_equal(numbers(), Some("007")), [true, false, false]);
        assert_eq!(are_equal(numbers(), Some("-7")), [false, false, true]);
        assert_eq!(are_equal(numbers(), None), [false, true, false]);
        assert_eq!(are_equal(numbers(), Some("x")), [false; 3]);
        let large = UInt64Array::from(vec![u64::MAX]);
        assert_eq!(are_equal(large, Some("18446744073709551615")), [true]);
        let booleans = || BooleanArray::from(vec![Some(true), Some(false), None]);
        assert_eq!(are_equal(booleans(), Some("false")), [false, true, false]);
        assert_eq!(are_equal(booleans(), Some("0")), [false; 3]);
        let days = || Date32Array::from(vec![Some(-1), Some(20_786), None]);
        assert_eq!(are_equal(days(), Some("1969-12-31")), [true, false, false]);
        assert_eq!(are_equal(days(), Some("2026-11-29")), [false, true, false]);
        assert_eq!(are_equal(days(), Some("2026-11-31")), [false; 3]);
        let prices = Decimal128Array::from(vec![150, -150]).with_precision_and_scale(9, 2);
        assert_eq!(are_equal(prices.unwrap(), Some("1.50")), [true, false]);
    }

    #[test]
    fn moments_are_compared_as_their_writers_name_them() {
        let moments = || TimestampMicrosecondArray::from(vec![1_500_000, 86_400_000_000, -1]);
        for (text, equal) in [
            ("1970-01-01 00:00:01.5", [true, false, false]),
            ("1970-01-01T00:00:01.500000Z", [true, false, false]),
            ("1970-01-01 00:00:01.500000+00:00", [true, false, false]),
            ("1970-01-02 00:00:00", [false, true, false]),
            ("1970-01-02 00:00:00+00", [false, true, false]),
            ("1970-01-02", [false, true, false]),
            ("1969-12-31 23:59:59.999999", [false, false, true]),
            ("1970-01-01 00:00:01.500000001", [false; 3]),
            ("1970-01-01 00:00", [false; 3]),
            ("1.5", [false; 3]),
        ] {
            assert_eq!(are_equal(moments(), Some(text)), equal, "{text}");
        }
    }

    #[test]
    fn what_folders_are_not_named_after_is_not_compared() {
        let fractions: ArrayRef = Arc::new(Float64Array::from(vec![0.5]));
        assert!(test(&fractions, Some("0.5")).is_none());
        assert!(!are_compared(&DataType::Float64) && !are_compared(&DataType::BinaryView));
        assert!(are_compared(&DataType::Utf8View) && are_compared(&DataType::Date32));
    }
}
