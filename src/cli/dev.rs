//! `keymill dev`: everything in one folder, ready in seconds.
//!
//! The folder holds `keymill.toml`, which `keymill serve --config` takes too, the store, its root
//! key and the socket. Later runs reuse all of it, and add only what is missing of the three
//! principals and the key.

use crate::cli::failure::{Failure, Status};
use crate::cli::operator::{perform, perform_unread};
use crate::cli::place::FILE_IN_FOLDER;
use crate::cli::{Addresses, output, serve};
use crate::config::{Config, Environment, Flag, OVERFLOW_ID};
use crate::daemon::{Core, Daemon};
use crate::file::open;
use crate::key::arn::AliasName;
use crate::keystore::AccessKey;
use crate::policy::Principal;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

#[derive(Args)]
#[command(after_help = "Examples:\n  \
    keymill dev\n  \
    keymill dev --dir /tmp/keys --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --region eu-central-1 --json")]
pub(super) struct Arguments {
    /// The folder, made if it is not there
    #[arg(long, value_name = "DIR", default_value = "keymill-dev")]
    dir: PathBuf,
    #[command(flatten)]
    addresses: Addresses,
    /// The Region of keys and signatures, fixed by the first run [default: us-east-1]
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// The account of keys and principals, fixed by the first run [default: 111122223333]
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// Print one line of JSON once ready, with addresses and credentials
    #[arg(long)]
    json: bool,
}

/// What the first run creates: names and the actions that each principal may perform.
const PRINCIPALS: [(&str, &[&str]); 3] = [
    ("admin", &["kms:*"]),
    (
        PROVISIONER,
        &["kms:GenerateDataKeyWithoutPlaintext", "kms:DescribeKey"],
    ),
    ("consumer", &["kms:Decrypt", "kms:DescribeKey"]),
];
/// Who an unsigned caller with the starter's uid is.
const PROVISIONER: &str = "provisioner";
/// The name of the first key.
const ALIAS: &str = "alias/containers";

pub(super) fn run(arguments: Arguments, environment: &Environment) -> Result<Status, Failure> {
    let start = serve::Start::new()?;
    let file = arguments.dir.join(FILE_IN_FOLDER);
    if !file.exists() {
        let config = Config::load(None, environment, &arguments.flags())?.config;
        make_folder(&arguments.dir, &file, &config)?;
    }
    let config = arguments.config(&file, environment)?;
    let prepare = async |core: &Core| prepare(&config, core).await;
    let announce = |daemon: &Daemon, identities: Vec<Identity>| {
        let ready = Ready {
            config: &config,
            daemon,
            identities,
        };
        output::secret(match arguments.json {
            true => ready.json()?,
            false => ready.text(&arguments.dir)?,
        })
    };
    serve::serve(
        start,
        serve::FIRST,
        &config,
        &file,
        environment,
        prepare,
        announce,
    )
}

impl Arguments {
    fn flags(&self) -> Vec<Flag> {
        let flag = |name, key, value: &Option<String>| {
            let value = value.clone()?;
            Some(Flag { name, key, value })
        };
        let mut flags = self.addresses.flags();
        flags.extend(flag("--region", "region", &self.region));
        flags.extend(flag("--account", "account", &self.account));
        flags
    }

    /// The folder's configuration, unless another Region or account is asked for than its keys
    /// have.
    fn config(&self, file: &Path, environment: &Environment) -> Result<Config, Failure> {
        let made = Config::load(Some(file), &Environment::default(), &[])?.config;
        let asked = |flag: &Option<String>, variable| {
            let variable = environment.variable(variable);
            flag.clone().or_else(|| variable.map(str::to_owned))
        };
        for (what, made, asked) in [
            (
                "Region",
                made.region.as_str(),
                asked(&self.region, "KEYMILL_REGION"),
            ),
            (
                "account",
                made.account.as_str(),
                asked(&self.account, "KEYMILL_ACCOUNT"),
            ),
        ] {
            if let Some(asked) = asked.filter(|asked| asked != made) {
                return Err(Failure::configuration(format!(
                    "the keys of {} are of {what} {made}, not {asked}: leave it out, or choose another --dir",
                    self.dir.display()
                )));
            }
        }
        Ok(Config::load(Some(file), environment, &self.flags())?.config)
    }
}

fn make_folder(dir: &Path, file: &Path, config: &Config) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    let written = made.and_then(|()| write_whole(file, &first_settings(config)));
    written.map_err(|error| Failure::failed(format!("cannot make {}: {error}", file.display())))
}

/// The file is complete or absent.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("toml.new");
    let mut file = open::anew(&temporary, 0o600)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

fn first_settings(config: &Config) -> String {
    let (region, account) = (&config.region, config.account);
    let peer = match rustix::process::geteuid().as_raw() {
        0 => "root".to_owned(),
        OVERFLOW_ID => "# 65534 is nobody in particular, and cannot be mapped. 1000".to_owned(),
        uid => uid.to_string(),
    };
    let provisioner = config.user_arn(PROVISIONER);
    format!(
        "# Made by `keymill dev`; `keymill serve --config` takes it too. Every setting is explained in config/keymill.toml of the sources.\n\
         region = \"{region}\"\n\
         account = \"{account}\"\n\
         \n\
         [peers.users]\n\
         {peer} = \"{provisioner}\"\n"
    )
}

/// A principal and its first access key, which is the store's own.
struct Identity {
    name: &'static str,
    arn: String,
    access_key: Arc<AccessKey>,
}

impl Identity {
    fn secret(&self) -> Result<&str, Failure> {
        std::str::from_utf8(self.access_key.secret.expose()).map_err(Failure::failed)
    }
}

/// Adds what is missing, as the operator.
async fn prepare(config: &Config, core: &Core) -> Result<Vec<Identity>, Failure> {
    let uid = rustix::process::geteuid().as_raw();
    let operator = Principal::operator(uid, config.account);
    for (name, actions) in PRINCIPALS {
        add_principal(config, core, &operator, name, actions).await?;
    }
    add_key(config, core, &operator).await?;
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
    let (operation, body) = match snapshot.principals.get(&config.user_arn(name)) {
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
    // The answer has the secret, and nobody reads it here: the store has it too.
    perform_unread(core, operator, operation, body.as_bytes()).await
}

async fn add_key(config: &Config, core: &Core, operator: &Arc<Principal>) -> Result<(), Failure> {
    let alias: AliasName = ALIAS.parse().map_err(Failure::failed)?;
    if core
        .keystore
        .snapshot()
        .alias(config.account, &alias)
        .is_some()
    {
        return Ok(());
    }
    let body = json!({ "Description": "made by keymill dev" }).to_string();
    let created = perform(core, operator, "CreateKey", body.as_bytes()).await?;
    let key = &created["KeyMetadata"]["KeyId"];
    let body = json!({ "AliasName": ALIAS, "TargetKeyId": key }).to_string();
    perform(core, operator, "CreateAlias", body.as_bytes()).await?;
    Ok(())
}

fn identity(config: &Config, core: &Core, name: &'static str) -> Result<Identity, Failure> {
    let arn = config.user_arn(name);
    let snapshot = core.keystore.snapshot();
    let entry = snapshot.principals.get(&arn);
    let key = entry.and_then(|entry| entry.access_keys.first());
    let key = key.ok_or_else(|| Failure::failed(format!("{arn} has no access key")))?;
    let access_key = Arc::clone(key);
    Ok(Identity {
        name,
        arn,
        access_key,
    })
}

/// Bytes of what is told at most, but for the paths in it: it is written into this room, and wiped
/// when it has been printed.
const READY_BYTES: usize = 8 << 10;

/// What is told once the daemon serves.
struct Ready<'a> {
    config: &'a Config,
    daemon: &'a Daemon,
    identities: Vec<Identity>,
}

impl Ready<'_> {
    fn json(&self) -> Result<Zeroizing<String>, Failure> {
        let mut principals = BTreeMap::new();
        for identity in &self.identities {
            let of = BTreeMap::from([
                ("arn", identity.arn.as_str()),
                ("access_key_id", &identity.access_key.id),
                ("secret_access_key", identity.secret()?),
            ]);
            principals.insert(identity.name, of);
        }
        let others = json!({
            "endpoint": self.daemon.endpoint(),
            "socket": self.daemon.socket(),
            "admin_endpoint": format!("http://{}", self.daemon.admin_address()),
            "region": self.config.region,
            "account": self.config.account.as_str(),
        });
        let ready = Facts { others, principals };
        let mut out = Zeroizing::new(Vec::with_capacity(READY_BYTES));
        serde_json::to_writer(&mut *out, &ready).map_err(Failure::failed)?;
        let text = String::from_utf8(std::mem::take(&mut *out)).map_err(Failure::failed)?;
        Ok(Zeroizing::new(text))
    }

    fn text(&self, dir: &Path) -> Result<Zeroizing<String>, Failure> {
        let endpoint = self.daemon.endpoint();
        let admin = self.daemon.admin_address();
        let socket = self.daemon.socket().display();
        let Config {
            region, account, ..
        } = self.config;
        let credentials = |name: &str| {
            let mut identities = self.identities.iter();
            let identity = identities.find(|identity| identity.name == name);
            let absent = || Failure::failed(format!("there is no principal {name}"));
            let identity = identity.ok_or_else(absent)?;
            let (id, secret) = (&identity.access_key.id, identity.secret()?);
            Ok::<_, Failure>(fmt::from_fn(move |out| {
                write!(
                    out,
                    "export AWS_ACCESS_KEY_ID={id} AWS_SECRET_ACCESS_KEY={secret}"
                )
            }))
        };
        let (provisioner, consumer, admin_user) = (
            credentials(PROVISIONER)?,
            credentials("consumer")?,
            credentials("admin")?,
        );
        let dir = dir.display();
        let mut text = Zeroizing::new(String::with_capacity(READY_BYTES));
        write!(
            text,
            "\
keymill serves Region {region}, account {account}, from {dir}

  AWS clients   {endpoint}
  Unix socket   {socket}  (unsigned callers with your uid are the provisioner)
  Prometheus    http://{admin}/metrics

Ask for a wrapped data key as the provisioner, who can never open one:

  export AWS_ENDPOINT_URL_KMS={endpoint} AWS_REGION={region}
  {provisioner}
  aws kms generate-data-key-without-plaintext --key-id {ALIAS} --key-spec AES_256 \\
      --encryption-context container=c-1 --query CiphertextBlob --output text | base64 -d > c-1.blob

Open it as the consumer:

  {consumer}
  aws kms decrypt --ciphertext-blob fileb://c-1.blob --encryption-context container=c-1

Create keys and aliases as the admin:

  {admin_user}
  aws kms create-key --description 'another key'

A million of them at once, without an AWS client:

  keymill export --endpoint unix:{socket} --key {ALIAS} --count 1000000 --out containers

Ctrl-C stops it; the same command goes on with the same keys and credentials."
        )
        .map_err(Failure::failed)?;
        Ok(text)
    }
}

/// The same for programs.
#[derive(Serialize)]
struct Facts<'a> {
    #[serde(flatten)]
    others: serde_json::Value,
    principals: BTreeMap<&'a str, BTreeMap<&'a str, &'a str>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn arguments(dir: &Path) -> Arguments {
        Arguments {
            dir: dir.to_owned(),
            addresses: Addresses {
                listen: None,
                admin_listen: None,
            },
            region: None,
            account: None,
            json: false,
        }
    }

    #[test]
    fn the_first_run_fixes_region_and_account() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("dev");
        let file = dir.join(FILE_IN_FOLDER);
        let nothing = Environment::default();
        let mut first = arguments(&dir);
        first.region = Some("eu-central-1".to_owned());
        first.account = Some("444455556666".to_owned());
        let config = Config::load(None, &nothing, &first.flags()).unwrap().config;
        make_folder(&dir, &file, &config).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&file)), (0o700, 0o600));

        let later = arguments(&dir).config(&file, &nothing).unwrap();
        assert_eq!(later.region, "eu-central-1");
        assert_eq!(later.account.as_str(), "444455556666");
        assert_eq!(later.store.path, dir.join("keystore.db"));
        let uid = rustix::process::geteuid().as_raw();
        if uid != OVERFLOW_ID {
            let provisioner = "arn:aws:iam::444455556666:user/provisioner".to_owned();
            assert_eq!(later.peers.map().uids.get(&uid), Some(&provisioner));
        }

        let mut other = arguments(&dir);
        other.account = Some("111122223333".to_owned());
        let refused = other.config(&file, &nothing).err().unwrap();
        assert_eq!(refused.status, Status::Configuration);
        assert!(
            refused
                .message
                .contains("account 444455556666, not 111122223333")
        );
        let variable = Environment::from_pairs([("KEYMILL_REGION", "us-west-2")]);
        let refused = arguments(&dir).config(&file, &variable).err().unwrap();
        assert!(
            refused
                .message
                .contains("Region eu-central-1, not us-west-2")
        );
    }
}
