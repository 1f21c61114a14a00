//! The table of operations: what AWS KMS knows, and who performs what of it.

use crate::api::{
    Answer, Api, ApiError, Reply, Requester, aliases, decrypt, encrypt, generate, grants, imports,
    key_pairs, key_policies, keys, macs, public_keys, re_encrypt, rotation, signatures, tags,
};
use std::pin::Pin;
use std::sync::Arc;

/// The thread that an operation is performed on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Thread {
    /// One that serves other requests too: nothing on it takes longer than a fraction of a
    /// millisecond.
    Async,
    /// One of its own.
    Own,
}

/// What an operation ends with that may find itself too long for the thread: `None`, and is
/// performed once more on one of its own.
pub(super) type Weighed = Result<Option<Reply>, ApiError>;
pub(super) type Weighing = fn(&Api, &Requester, &[u8], Thread) -> Weighed;

/// A call under way.
pub(super) type Changed = Pin<Box<dyn Future<Output = Answer> + Send>>;

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
    /// The same, unless what it is asked for takes milliseconds of arithmetic.
    Weighing(Weighing),
    /// After waiting for something else than the store; dropped with its caller.
    Waiting(fn(Arc<Api>, Requester, Vec<u8>) -> Changed),
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

macro_rules! waiting {
    ($function:path) => {
        Handler::Waiting(|api, requester, body| Box::pin($function(api, requester, body)))
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
    ("Decrypt", Handler::Weighing(decrypt::decrypt)),
    ("DeleteAlias", changing!(aliases::delete)),
    ("DeleteCustomKeyStore", Handler::Unbuilt),
    ("DeleteImportedKeyMaterial", changing!(imports::delete)),
    (
        "DeriveSharedSecret",
        Handler::AtOnce(public_keys::derive_shared_secret),
    ),
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
    ("GenerateDataKeyPair", waiting!(key_pairs::with_plaintext)),
    (
        "GenerateDataKeyPairWithoutPlaintext",
        waiting!(key_pairs::without_plaintext),
    ),
    (
        "GenerateDataKeyWithoutPlaintext",
        Handler::AtOnce(generate::without_plaintext),
    ),
    ("GenerateMac", Handler::AtOnce(macs::generate)),
    ("GenerateRandom", Handler::AtOnce(encrypt::random)),
    ("GetKeyLastUsage", waiting!(keys::last_usage::get)),
    ("GetKeyPolicy", Handler::AtOnce(key_policies::get)),
    ("GetKeyRotationStatus", Handler::AtOnce(rotation::status)),
    ("GetParametersForImport", waiting!(imports::parameters)),
    ("GetPublicKey", Handler::AtOnce(public_keys::get)),
    ("ImportKeyMaterial", changing!(imports::import)),
    ("ListAliases", Handler::AtOnce(aliases::list)),
    ("ListGrants", Handler::AtOnce(grants::listing::of_key)),
    ("ListKeyPolicies", Handler::AtOnce(key_policies::list)),
    ("ListKeyRotations", Handler::AtOnce(rotation::listing::list)),
    ("ListKeys", Handler::AtOnce(keys::list)),
    ("ListResourceTags", Handler::AtOnce(tags::list)),
    (
        "ListRetirableGrants",
        Handler::AtOnce(grants::listing::retirable),
    ),
    ("PutKeyPolicy", changing!(key_policies::put)),
    ("ReEncrypt", Handler::Weighing(re_encrypt::re_encrypt)),
    ("ReplicateKey", Handler::Unbuilt),
    ("RetireGrant", changing!(grants::removal::retire)),
    ("RevokeGrant", changing!(grants::removal::revoke)),
    ("RotateKeyOnDemand", changing!(rotation::on_demand)),
    ("ScheduleKeyDeletion", changing!(keys::schedule_deletion)),
    ("Sign", Handler::Weighing(signatures::sign)),
    ("TagResource", changing!(tags::tag)),
    ("UntagResource", changing!(tags::untag)),
    ("UpdateAlias", changing!(aliases::update)),
    ("UpdateCustomKeyStore", Handler::Unbuilt),
    ("UpdateKeyDescription", changing!(keys::update_description)),
    ("UpdatePrimaryRegion", Handler::Unbuilt),
    ("Verify", Handler::AtOnce(signatures::verify)),
    ("VerifyMac", Handler::AtOnce(macs::verify)),
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
