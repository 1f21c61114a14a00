//! What `provision` and `bind` do: a data key for each row, bound to that row's context.

use crate::audit::RowsDigest;
use crate::bulk::keys::{Operation, RowsError};
use crate::bulk::local::{Keys, LocalWork};
use crate::bulk::remote::RemoteWork;
use crate::bulk::stream::{self, encoded};
use crate::bulk::{Client, KeyIdentity, SourceError};
use crate::columns::{ColumnError, ContextPairs, Rows, Texts, names};
use crate::context::ContextRuns;
use crate::envelope::blob::{OVERHEAD_BYTES, PLAINTEXT_BYTES_MAX};
use crate::envelope::blob_bytes;
use crate::key::data_key::DataKeyLength;
use crate::stream::Purpose;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::ArrowError;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Binds a data key to each row.
#[derive(Clone, Debug)]
pub struct Bind {
    /// The key as the caller names it.
    pub key: String,
    /// The length of every data key.
    pub length: DataKeyLength,
    /// What contexts are made of.
    pub pairs: ContextPairs,
}

/// Some rows, and their contexts.
#[derive(Clone, Copy)]
pub struct Contexts<'a> {
    /// The values, by row.
    pub rows: &'a Rows<'a>,
    /// The contexts.
    pub runs: &'a ContextRuns,
}

/// The contexts of `count` rows, those in a row that are alike as one.
///
/// # Errors
/// The first row that has none, and why.
pub fn runs(rows: &Rows<'_>, count: usize) -> Result<ContextRuns, (usize, ColumnError)> {
    let mut runs = ContextRuns::default();
    for row in 0..count {
        let pushed = rows.push_context(row, &mut runs);
        pushed.map_err(|error| (row, error))?;
    }
    Ok(runs)
}

impl Operation for Bind {
    type Rows<'a> = Contexts<'a>;
    /// Blobs, end to end.
    type Out = Vec<u8>;
    type Done = KeyIdentity;
}

impl LocalWork for Bind {
    type Operation = Self;

    fn asked(&self, arn: &str, rows: u64) -> Value {
        let constants = self.pairs.constants.iter().cloned();
        json!({
            "KeyId": arn,
            "NumberOfBytes": self.length.bytes(),
            "ContextColumns": self.pairs.columns,
            "EncryptionContext": constants.collect::<BTreeMap<_, _>>(),
            "Count": rows,
        })
    }

    fn perform(
        &self,
        keys: &Keys,
        contexts: Contexts<'_>,
        out: &mut Vec<u8>,
        made: &mut RowsDigest,
    ) -> Result<(), RowsError> {
        let from = out.len();
        keys.mint(self.length, contexts.runs.iter(), out)?;
        made.add(Self::count(contexts) as u64, &out[from..]);
        Ok(())
    }
}

impl RemoteWork for Bind {
    type Operation = Self;

    const PURPOSE: Purpose = Purpose::Bind;
    const ANSWER_BYTES_MAX: usize = OVERHEAD_BYTES + PLAINTEXT_BYTES_MAX;

    fn query(&self) -> String {
        let length = match self.length {
            DataKeyLength::AES_256 => "spec=AES_256".to_owned(),
            DataKeyLength::AES_128 => "spec=AES_128".to_owned(),
            length => format!("bytes={}", length.bytes()),
        };
        let columns = encoded(&names::list(&self.pairs.columns));
        let constants = self.pairs.constants.iter();
        let pairs: String = constants
            .map(|(name, value)| format!("&constant={}", encoded(&format!("{name}={value}"))))
            .collect();
        format!(
            "key={}&{length}&context={columns}{pairs}",
            encoded(&self.key)
        )
    }

    fn count(contexts: Contexts<'_>) -> usize {
        contexts.runs.rows()
    }

    fn bytes(contexts: Contexts<'_>, row: usize) -> usize {
        let columns = contexts.rows.columns();
        let texts = columns.iter().filter_map(|column| column.text(row));
        texts.map(str::len).sum::<usize>() + size_of::<i32>() * columns.len()
    }

    fn batch(
        &self,
        contexts: Contexts<'_>,
        range: Range<usize>,
    ) -> Result<RecordBatch, ArrowError> {
        let array = |column: &Texts<'_>| {
            let texts = range.clone().map(|row| column.text(row));
            Arc::new(StringArray::from_iter(texts)) as ArrayRef
        };
        let columns = contexts.rows.columns().iter().map(array);
        let named = self.pairs.columns.iter().zip(columns);
        RecordBatch::try_from_iter_with_nullable(named.map(|(name, array)| (name, array, true)))
    }

    fn take(
        &self,
        client: &Client,
        answer: &[RecordBatch],
        out: &mut Vec<u8>,
    ) -> Result<KeyIdentity, SourceError> {
        let bytes = Some(blob_bytes(self.length));
        stream::blobs(client, answer, bytes, |blob| out.extend_from_slice(blob))
    }

    fn rehearsal(&self, contexts: Contexts<'_>) -> Option<(&'static str, Value)> {
        let (context, _) = contexts.runs.iter().next()?;
        let context = context.to_context();
        let members = json!({
            "KeyId": self.key,
            "NumberOfBytes": self.length.bytes(),
            "EncryptionContext": context.pairs().collect::<BTreeMap<_, _>>(),
        });
        Some(("GenerateDataKeyWithoutPlaintext", members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_encoded_as_signatures_want_it() {
        let pairs = ContextPairs {
            columns: vec!["tenant".to_owned(), "container id".to_owned()],
            constants: vec![("purpose".to_owned(), "Zoë's=1&2".to_owned())],
        };
        let query = |length| {
            let (key, pairs) = ("alias/a b".to_owned(), pairs.clone());
            Bind { key, length, pairs }.query()
        };
        let expected = "key=alias%2Fa%20b&spec=AES_256&context=tenant%2Ccontainer%20id\
                        &constant=purpose%3DZo%C3%AB%27s%3D1%262";
        assert_eq!(query(DataKeyLength::AES_256), expected);
        let length = DataKeyLength::new(7).unwrap();
        assert!(query(length).contains("&bytes=7&"));
    }
}
