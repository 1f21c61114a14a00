//! The principals and the keys of a `keymill dev`, which its first run makes.

use crate::cli::failure::Failure;
use crate::cli::operator::{perform, perform_unread};
use crate::config::Config;
use crate::daemon::Core;
use crate::key::arn::AliasName;
use crate::key::regions::RegionNumber;
use crate::keystore::AccessKey;
use crate::policy::Principal;
use serde_json::json;
use std::sync::Arc;

/// Unsigned callers of the daemon's own socket, under the user who started it.
pub(super) const PROVISIONER: &str = "provisioner";
/// Opens blobs, and makes none.
pub(super) const CONSUMER: &str = "consumer";
/// Moves blobs to another key, and sees no data key.
pub(super) const REWRAPPER: &str = "rewrapper";
/// May do everything.
pub(super) const ADMIN: &str = "admin";

/// Each principal with the actions that its policy allows.
pub(super) const PRINCIPALS: [(&str, &[&str]); 4] = [
    (ADMIN, &["kms:*", "sts:*", "tag:*"]),
    (
        PROVISIONER,
        &["kms:GenerateDataKeyWithoutPlaintext", "kms:DescribeKey"],
    ),
    (CONSUMER, &["kms:Decrypt", "kms:DescribeKey"]),
    (
        REWRAPPER,
        &["kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:DescribeKey"],
    ),
];

/// The alias of the key that every example names.
pub(super) const ALIAS: &str = "alias/containers";
/// The alias of the key that blobs are moved to.
pub(super) const NEXT: &str = "alias/next";

/// A principal and its first access key, which is the store's own.
pub(super) struct Identity {
    pub(super) name: &'static str,
    pub(super) arn: String,
    pub(super) access_key: Arc<AccessKey>,
}

impl Identity {
    pub(super) fn secret(&self) -> Result<&str, Failure> {
        std::str::from_utf8(self.access_key.secret.expose()).map_err(Failure::failed)
    }
}

/// Adds the principals and the keys that are missing, as the operator.
pub(super) async fn prepare(config: &Config, core: &Core) -> Result<Vec<Identity>, Failure> {
    let uid = rustix::process::geteuid().as_raw();
    let operator = Principal::operator(uid, config.account);
    for (name, actions) in PRINCIPALS {
        add_principal(config, core, &operator, name, actions).await?;
    }
    for alias in [ALIAS, NEXT] {
        add_key(config, core, &operator, alias).await?;
    }
    PRINCIPALS
        .iter()
        .map(|(name, _)| identity(config, core, name))
        .collect()
}

async fn add_principal(
    config: &Config,
    core: &Core,
    operator: &Arc<Principal>,
    name: &str,
    actions: &[&str],
) -> Result<(), Failure> {
    let snapshot = core.keystore.snapshot();
    let (operation, body) = match snapshot.principals.get(config.user_arn(name).as_str()) {
        Some(entry) if !entry.access_keys.is_empty() => return Ok(()),
        Some(_) => ("CreateAccessKey", json!({ "Name": name })),
        None => {
            let statement = json!({ "Effect": "Allow", "Action": actions, "Resource": "*" });
            let policy = json!({ "Version": "2012-10-17", "Statement": [statement] });
            let body = json!({ "Name": name, "Policies": [policy.to_string()] });
            ("CreatePrincipal", body)
        }
    };
    let body = body.to_string();
    // The answer has the secret, and is not read here: the store has it too.
    let performed = perform_unread(core, operator, operation, body.as_bytes()).await;
    // Another node may have done it at the same time.
    let snapshot = core.keystore.snapshot();
    let entry = snapshot.principals.get(config.user_arn(name).as_str());
    match entry {
        Some(entry) if !entry.access_keys.is_empty() => Ok(()),
        _ => performed,
    }
}

async fn add_key(
    config: &Config,
    core: &Core,
    operator: &Arc<Principal>,
    alias: &str,
) -> Result<(), Failure> {
    let name: AliasName = alias.parse().map_err(Failure::failed)?;
    let snapshot = core.keystore.snapshot();
    let home = RegionNumber::HOME;
    if snapshot.alias(home, config.account, &name).is_some() {
        return Ok(());
    }
    let body = json!({ "Description": "made by keymill dev" }).to_string();
    let created = perform(core, operator, "CreateKey", body.as_bytes()).await?;
    let key = &created["KeyMetadata"]["KeyId"];
    let body = json!({ "AliasName": alias, "TargetKeyId": key }).to_string();
    let performed = perform(core, operator, "CreateAlias", body.as_bytes()).await;
    // Another node may have done it at the same time.
    let snapshot = core.keystore.snapshot();
    match snapshot.alias(home, config.account, &name) {
        Some(_) => Ok(()),
        None => performed.map(drop),
    }
}

fn identity(config: &Config, core: &Core, name: &'static str) -> Result<Identity, Failure> {
    let arn = config.user_arn(name);
    let snapshot = core.keystore.snapshot();
    let entry = snapshot.principals.get(arn.as_str());
    let key = entry
        .and_then(|entry| entry.access_keys.first())
        .ok_or_else(|| Failure::failed(format!("{arn} has no access key")))?;
    let access_key = Arc::clone(key);
    Ok(Identity {
        name,
        arn,
        access_key,
    })
}
