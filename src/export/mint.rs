//! What an export does: data keys of one length, bound to one context.

use crate::audit::RowsDigest;
use crate::bulk::KeyIdentity;
use crate::bulk::keys::{Operation, RowsError};
use crate::bulk::local::{Keys, LocalWork};
use crate::context::EncryptionContext;
use crate::key::data_key::DataKeyLength;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Makes data keys, each bound to the same context.
#[derive(Clone, Debug)]
pub struct Mint {
    /// The key as the caller names it.
    pub key: String,
    /// The length of every data key.
    pub length: DataKeyLength,
    /// The context that every blob is bound to.
    pub context: EncryptionContext,
}

impl Operation for Mint {
    /// How many.
    type Rows<'a> = usize;
    type Out = Vec<u8>;
    type Done = KeyIdentity;
}

impl LocalWork for Mint {
    type Operation = Self;

    /// As a caller of the batch endpoint would write it.
    fn asked(&self, arn: &str, rows: u64) -> Value {
        json!({
            "KeyId": arn,
            "NumberOfBytes": self.length.bytes(),
            "EncryptionContext": self.context.pairs().collect::<BTreeMap<_, _>>(),
            "Count": rows,
        })
    }

    fn perform(
        &self,
        keys: &Keys,
        count: usize,
        out: &mut Vec<u8>,
        made: &mut RowsDigest,
    ) -> Result<(), RowsError> {
        let from = out.len();
        keys.mint(self.length, [(&self.context, count)], out)?;
        made.add(count as u64, &out[from..]);
        Ok(())
    }
}
