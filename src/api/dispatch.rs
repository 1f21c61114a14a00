//! Who performs which operation.

use crate::api::handler::Handler;
use crate::api::{
    aliases, decrypt, encapsulation, encrypt, generate, grants, imports, key_pairs, key_policies,
    key_stores, keys, macs, public_keys, random, re_encrypt, rotation, signatures, tags,
};
use crate::operation::Operation;

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

/// Who performs an operation.
pub(super) fn handler(operation: Operation) -> Handler {
    match operation {
        Operation::CancelKeyDeletion => changing!(keys::cancel_deletion),
        Operation::ConnectCustomKeyStore => changing!(key_stores::connection::connect),
        Operation::CreateAlias => changing!(aliases::create),
        Operation::CreateCustomKeyStore => changing!(key_stores::creation::create),
        Operation::CreateGrant => changing!(grants::create),
        Operation::CreateKey => changing!(keys::creation::create),
        Operation::Decapsulate => Handler::AtOnce(encapsulation::decapsulate),
        Operation::Decrypt => Handler::Relaying(decrypt::decrypt),
        Operation::DeleteAlias => changing!(aliases::delete),
        Operation::DeleteCustomKeyStore => changing!(key_stores::delete),
        Operation::DeleteImportedKeyMaterial => changing!(imports::delete),
        Operation::DeriveSharedSecret => Handler::Weighing(public_keys::derive_shared_secret),
        Operation::DescribeCustomKeyStores => Handler::AtOnce(key_stores::describe),
        Operation::DescribeKey => Handler::AtOnce(keys::describe),
        Operation::DisableKey => changing!(keys::disable),
        Operation::DisableKeyRotation => changing!(rotation::disable),
        Operation::DisconnectCustomKeyStore => changing!(key_stores::connection::disconnect),
        Operation::EnableKey => changing!(keys::enable),
        Operation::EnableKeyRotation => changing!(rotation::enable),
        Operation::Encapsulate => Handler::AtOnce(encapsulation::encapsulate),
        Operation::Encrypt => Handler::Relaying(encrypt::encrypt),
        Operation::GenerateDataKey => Handler::Relaying(generate::with_plaintext),
        Operation::GenerateDataKeyPair => waiting!(key_pairs::with_plaintext),
        Operation::GenerateDataKeyPairWithoutPlaintext => waiting!(key_pairs::without_plaintext),
        Operation::GenerateDataKeyWithoutPlaintext => {
            Handler::Relaying(generate::without_plaintext)
        }
        Operation::GenerateMac => Handler::AtOnce(macs::generate),
        Operation::GenerateRandom => Handler::Weighing(random::generate),
        Operation::GetKeyLastUsage => waiting!(keys::last_usage::get),
        Operation::GetKeyPolicy => Handler::AtOnce(key_policies::get),
        Operation::GetKeyRotationStatus => Handler::AtOnce(rotation::status),
        Operation::GetParametersForImport => waiting!(imports::parameters),
        Operation::GetPublicKey => Handler::AtOnce(public_keys::get),
        Operation::ImportKeyMaterial => changing!(imports::import),
        Operation::ListAliases => Handler::AtOnce(aliases::list),
        Operation::ListGrants => Handler::AtOnce(grants::listing::of_key),
        Operation::ListKeyPolicies => Handler::AtOnce(key_policies::list),
        Operation::ListKeyRotations => Handler::AtOnce(rotation::listing::list),
        Operation::ListKeys => Handler::AtOnce(keys::listing::list),
        Operation::ListResourceTags => Handler::AtOnce(tags::list),
        Operation::ListRetirableGrants => Handler::AtOnce(grants::listing::retirable),
        Operation::PutKeyPolicy => changing!(key_policies::put),
        Operation::ReEncrypt => Handler::Relaying(re_encrypt::re_encrypt),
        Operation::ReplicateKey => changing!(keys::replication::replicate),
        Operation::RetireGrant => changing!(grants::removal::retire),
        Operation::RevokeGrant => changing!(grants::removal::revoke),
        Operation::RotateKeyOnDemand => changing!(rotation::on_demand),
        Operation::ScheduleKeyDeletion => changing!(keys::schedule_deletion),
        Operation::Sign => Handler::Weighing(signatures::sign),
        Operation::TagResource => changing!(tags::tag),
        Operation::UntagResource => changing!(tags::untag),
        Operation::UpdateAlias => changing!(aliases::update),
        Operation::UpdateCustomKeyStore => changing!(key_stores::update::update),
        Operation::UpdateKeyDescription => changing!(keys::update_description),
        Operation::UpdatePrimaryRegion => changing!(keys::primary_region::update),
        Operation::Verify => Handler::AtOnce(signatures::verify),
        Operation::VerifyMac => Handler::AtOnce(macs::verify),
    }
}
