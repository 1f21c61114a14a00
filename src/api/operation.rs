//! The table of operations: what AWS KMS knows, and who performs what of it.

use crate::api::{
    Answer, Api, Requester, aliases, decrypt, encrypt, generate, grants, key_policies, keys,
    re_encrypt, rotation, tags,
};
use std::pin::Pin;
use std::sync::Arc;

/// A change under way.
type Changed = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// One row of the operation table.
pub struct Operation {
    /// As `X-Amz-Target` names it after `TrentService.`.
    pub name: &'static str,
    /// Its place in [`OPERATIONS`], for tables by operation.
    pub index: usize,
    pub(super) handler: Handler,
}

/// How an operation is performed.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    /// Without waiting for anything.
    AtOnce(fn(&Api, &Requester, &[u8]) -> Answer),
    /// By changing the store: runs to its end whatever becomes of the caller.
    Changing(fn(Arc<Api>, Requester, Vec<u8>) -> Changed),
    /// Known to AWS KMS, not built here.
    Unbuilt,
}

macro_rules! changing {
    ($function:path) => {
        Handler::Changing(|api, requester, body| Box::pin($function(api, requester, body)))
    };
}

/// Every operation of the service model, built or not.
pub static OPERATIONS: [Operation; 56] = table([
    ("CancelKeyDeletion", changing!(keys::cancel_deletion)),
    ("ConnectCustomKeyStore", Handler::Unbuilt),
    ("CreateAlias", changing!(aliases::create)),
    ("CreateCustomKeyStore", Handler::Unbuilt),
    ("CreateGrant", changing!(grants::create)),
    ("CreateKey", changing!(keys::creation::create)),
    ("Decapsulate", Handler::Unbuilt),
    ("Decrypt", Handler::AtOnce(decrypt::decrypt)),
    ("DeleteAlias", changing!(aliases::delete)),
    ("DeleteCustomKeyStore", Handler::Unbuilt),
    ("DeleteImportedKeyMaterial", Handler::Unbuilt),
    ("DeriveSharedSecret", Handler::Unbuilt),
    ("DescribeCustomKeyStores", Handler::Unbuilt),
    ("DescribeKey", Handler::AtOnce(keys::describe)),
    ("DisableKey", changing!(keys::disable)),
    ("DisableKeyRotation", changing!(rotation::disable)),
    ("DisconnectCustomKeyStore", Handler::Unbuilt),
    ("EnableKey", changing!(keys::enable)),
    ("EnableKeyRotation", changing!(rotation::enable)),
    ("Encapsulate", Handler::Unbuilt),
    ("Encrypt", Handler::AtOnce(encrypt::encrypt)),
    ("GenerateDataKey", Handler::AtOnce(generate::with_plaintext)),
    ("GenerateDataKeyPair", Handler::Unbuilt),
    ("GenerateDataKeyPairWithoutPlaintext", Handler::Unbuilt),
    (
        "GenerateDataKeyWithoutPlaintext",
        Handler::AtOnce(generate::without_plaintext),
    ),
    ("GenerateMac", Handler::Unbuilt),
    ("GenerateRandom", Handler::AtOnce(encrypt::random)),
    ("GetKeyLastUsage", Handler::Unbuilt),
    ("GetKeyPolicy", Handler::AtOnce(key_policies::get)),
    ("GetKeyRotationStatus", Handler::AtOnce(rotation::status)),
    ("GetParametersForImport", Handler::Unbuilt),
    ("GetPublicKey", Handler::Unbuilt),
    ("ImportKeyMaterial", Handler::Unbuilt),
    ("ListAliases", Handler::AtOnce(aliases::list)),
    ("ListGrants", Handler::AtOnce(grants::listing::of_key)),
    ("ListKeyPolicies", Handler::AtOnce(key_policies::list)),
    ("ListKeyRotations", Handler::AtOnce(rotation::list)),
    ("ListKeys", Handler::AtOnce(keys::list)),
    ("ListResourceTags", Handler::AtOnce(tags::list)),
    (
        "ListRetirableGrants",
        Handler::AtOnce(grants::listing::retirable),
    ),
    ("PutKeyPolicy", changing!(key_policies::put)),
    ("ReEncrypt", Handler::AtOnce(re_encrypt::re_encrypt)),
    ("ReplicateKey", Handler::Unbuilt),
    ("RetireGrant", changing!(grants::removal::retire)),
    ("RevokeGrant", changing!(grants::removal::revoke)),
    ("RotateKeyOnDemand", changing!(rotation::on_demand)),
    ("ScheduleKeyDeletion", changing!(keys::schedule_deletion)),
    ("Sign", Handler::Unbuilt),
    ("TagResource", changing!(tags::tag)),
    ("UntagResource", changing!(tags::untag)),
    ("UpdateAlias", changing!(aliases::update)),
    ("UpdateCustomKeyStore", Handler::Unbuilt),
    ("UpdateKeyDescription", changing!(keys::update_description)),
    ("UpdatePrimaryRegion", Handler::Unbuilt),
    ("Verify", Handler::Unbuilt),
    ("VerifyMac", Handler::Unbuilt),
]);

const fn table<const N: usize>(rows: [(&'static str, Handler); N]) -> [Operation; N] {
    let mut table = [const {
        Operation {
            name: "",
            index: 0,
            handler: Handler::Unbuilt,
        }
    }; N];
    let mut index = 0;
    while index < N {
        let (name, handler) = rows[index];
        table[index].name = name;
        table[index].index = index;
        table[index].handler = handler;
        index += 1;
    }
    table
}

impl Operation {
    /// Whether the operation is built.
    #[must_use]
    pub fn is_built(&self) -> bool {
        !matches!(self.handler, Handler::Unbuilt)
    }

    /// Whether it changes the store.
    #[must_use]
    pub fn changes(&self) -> bool {
        matches!(self.handler, Handler::Changing(_))
    }
}

/// Finds an operation by its name; case matters.
#[must_use]
pub fn operation(name: &str) -> Option<&'static Operation> {
    let found = OPERATIONS.binary_search_by(|operation| operation.name.cmp(name));
    found.ok().map(|index| &OPERATIONS[index])
}
