//! What `keymill dev` prints once the daemon serves: lines to paste for people, one line of JSON
//! for programs.

use super::principals::{ADMIN, ALIAS, CONSUMER, Identity, NEXT, PROVISIONER, REWRAPPER};
use super::samples;
use crate::cli::failure::Failure;
use crate::config::Config;
use crate::daemon::Daemon;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::Path;
use zeroize::Zeroizing;

/// Room for the text, which is at most half as long without the paths in it: it is written into
/// this room, so that no copy is left behind, and wiped when it has been printed.
const READY_BYTES: usize = 8 << 10;

/// A daemon that serves, with its principals.
pub(super) struct Ready<'a> {
    pub(super) config: &'a Config,
    pub(super) daemon: &'a Daemon,
    pub(super) identities: Vec<Identity>,
}

impl Ready<'_> {
    /// Addresses and credentials, as one line of JSON.
    pub(super) fn json(&self) -> Result<Zeroizing<String>, Failure> {
        let mut principals = BTreeMap::new();
        for identity in &self.identities {
            let of = BTreeMap::from([
                ("arn", identity.arn.as_str()),
                ("access_key_id", &identity.access_key.id),
                ("secret_access_key", identity.secret()?),
            ]);
            principals.insert(identity.name, of);
        }
        let sockets: BTreeMap<_, _> = self
            .config
            .sockets
            .iter()
            .map(|(name, of)| (name, &of.path))
            .collect();
        let others = json!({
            "endpoint": self.daemon.endpoint(),
            "socket": self.daemon.socket(),
            "sockets": sockets,
            "admin_endpoint": format!("http://{}", self.daemon.admin_address()),
            "region": self.config.region,
            "regions": self.config.region_names(),
            "account": self.config.account.as_str(),
        });
        let ready = Facts { others, principals };
        let mut out = Zeroizing::new(Vec::with_capacity(READY_BYTES));
        serde_json::to_writer(&mut *out, &ready).map_err(Failure::failed)?;
        let text = String::from_utf8(std::mem::take(&mut *out)).map_err(Failure::failed)?;
        Ok(Zeroizing::new(text))
    }

    /// Addresses, and commands with their credentials. Each command runs after those above it.
    pub(super) fn text(&self, dir: &Path) -> Result<Zeroizing<String>, Failure> {
        let mut text = Zeroizing::new(String::with_capacity(READY_BYTES));
        self.write_text(&dir.display(), &mut text)?;
        Ok(text)
    }

    fn write_text(&self, dir: &impl fmt::Display, text: &mut String) -> Result<(), Failure> {
        let endpoint = self.daemon.endpoint();
        let admin = self.daemon.admin_address();
        let socket = self.daemon.socket().display();
        let Config {
            region, account, ..
        } = self.config;
        let names = self.config.region_names();
        let served = match names.len() {
            1 => format!("Region {region}"),
            _ => format!("Regions {}", names.join(", ")),
        };
        let (provisioner, consumer, admin_user) = (
            self.credentials(PROVISIONER)?,
            self.credentials(CONSUMER)?,
            self.credentials(ADMIN)?,
        );
        write!(
            text,
            "\
keymill serves {served}, account {account}, from {dir}

  AWS clients   {endpoint}
  Unix socket   {socket}  (unsigned callers with your uid are the provisioner)
  Prometheus    http://{admin}/metrics

Ask for a wrapped data key as the provisioner, who can never open one:

  export AWS_ENDPOINT_URL_KMS={endpoint} AWS_REGION={region} AWS_DEFAULT_REGION={region}
  {provisioner}
  aws kms generate-data-key-without-plaintext --key-id {ALIAS} --key-spec AES_256 \\
      --encryption-context container=c-1 --query CiphertextBlob --output text | base64 -d > c-1.blob

Open it as the consumer:

  {consumer}
  aws kms decrypt --ciphertext-blob fileb://c-1.blob --encryption-context container=c-1

Create keys and aliases as the admin:

  {admin_user}
  aws kms create-key --description 'another key'

"
        )
        .map_err(Failure::failed)?;
        self.write_bulk(dir, text).map_err(Failure::failed)?;
        text.push_str(
            "Ctrl-C stops it; the same command goes on with the same keys and credentials.",
        );
        Ok(())
    }

    /// Bulk jobs, on the sockets that the configuration still has.
    fn write_bulk(&self, dir: &impl fmt::Display, text: &mut String) -> fmt::Result {
        let socket = self.daemon.socket().display();
        write!(
            text,
            "\
A key beside each row of a table, without an AWS client:

  keymill provision {dir}/{volumes} --key {ALIAS} --id-column volume --context tenant,volume \\
      --out provisioned --endpoint unix:{socket}

",
            volumes = samples::VOLUMES
        )?;
        let path = |name| Some(self.config.sockets.get(name)?.path.display());
        let (Some(consumer), Some(rewrapper)) = (path(CONSUMER), path(REWRAPPER)) else {
            return Ok(());
        };
        write!(
            text,
            "\
Move them to another KMS key as the rewrapper, and try each as the consumer:

  keymill rewrap provisioned --key {NEXT} --out rewrapped --endpoint unix:{rewrapper}
  keymill verify rewrapped --endpoint unix:{consumer}

"
        )
    }

    /// The variables that AWS clients read.
    fn credentials(&self, name: &str) -> Result<impl fmt::Display, Failure> {
        let mut identities = self.identities.iter();
        let identity = identities.find(|identity| identity.name == name);
        let absent = || Failure::failed(format!("there is no principal {name}"));
        let identity = identity.ok_or_else(absent)?;
        let (id, secret) = (&identity.access_key.id, identity.secret()?);
        Ok(fmt::from_fn(move |out| {
            write!(
                out,
                "export AWS_ACCESS_KEY_ID={id} AWS_SECRET_ACCESS_KEY={secret}"
            )
        }))
    }
}

/// What [`Ready::json`] prints.
#[derive(Serialize)]
struct Facts<'a> {
    #[serde(flatten)]
    others: serde_json::Value,
    principals: BTreeMap<&'a str, BTreeMap<&'a str, &'a str>>,
}
