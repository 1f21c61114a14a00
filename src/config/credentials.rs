//! Credentials of systemd (systemd.exec(5)): a setting that names a file which is only read may say
//! `credential:NAME` in the place of a path.

use crate::config::Environment;
use std::path::{Path, PathBuf};

const PREFIX: &str = "credential:";
/// The longest name that systemd takes, in bytes: that of a file.
const NAME_BYTES_MAX: usize = 255;
/// Where systemd puts the credentials of config/keymill.service while it runs, for commands that
/// are not a part of it.
const FOLDER_OF_UNIT: &str = "/run/credentials/keymill.service";

/// The file of a credential, where `path` says the name of one.
///
/// # Errors
/// Why there is no such file.
pub(super) fn file(
    path: &Path,
    environment: &Environment,
) -> Option<Result<PathBuf, &'static str>> {
    let name = path.to_str()?.strip_prefix(PREFIX)?;
    if !is_name(name) {
        return Some(Err(
            "allowed after credential: is the NAME of LoadCredential=",
        ));
    }
    let folder = environment.variable(Environment::CREDENTIALS);
    let folder = Path::new(folder.unwrap_or(FOLDER_OF_UNIT));
    Some(if folder.is_absolute() {
        Ok(folder.join(name))
    } else {
        Err("CREDENTIALS_DIRECTORY is not an absolute path")
    })
}

/// Whether systemd would take it: the name of a file and of a file descriptor.
fn is_name(name: &str) -> bool {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && !matches!(name, "." | "..");
    let is_fit = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'/' | b':');
    fits && name.bytes().all(is_fit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigError, Loaded};

    const FOLDER: &str = "/run/credentials/other.service";

    fn read(text: &str, folder: Option<&str>) -> Result<Loaded, ConfigError> {
        let variables = folder.map(|folder| (Environment::CREDENTIALS, folder));
        let environment = Environment::from_pairs(variables);
        Config::read(
            Some((Path::new("/etc/keymill.toml"), text)),
            &environment,
            &[],
        )
    }

    fn refusal(text: &str, folder: Option<&str>) -> String {
        read(text, folder).err().unwrap().to_string()
    }

    #[test]
    fn a_credential_is_a_file_of_the_units_folder() {
        let text = "[store]\nroot_key = 'credential:root_key'\nurl = 'postgres://k@h/d'\n\
            password_file = 'credential:db.password'\nca_file = 'authority.pem'\n\
            [tls]\ncertificate = '/etc/tls.pem'\nkey = 'credential:tls.key'\n";
        let Loaded { config, settings } = read(text, Some(FOLDER)).unwrap();
        let file = |name| Path::new(FOLDER).join(name);
        assert_eq!(config.store.root_key, file("root_key"));
        assert_eq!(config.store.password_file, file("db.password"));
        assert_eq!(config.store.ca_file, Path::new("/etc/authority.pem"));
        assert_eq!(config.tls.key, file("tls.key"));
        let shown = settings["store.root_key"].value.to_string();
        assert_eq!(shown, "\"credential:root_key\"");
        // A command beside the unit, which has its own folder.
        let config = read(text, None).unwrap().config;
        assert_eq!(config.tls.key, Path::new(FOLDER_OF_UNIT).join("tls.key"));
    }

    #[test]
    fn a_path_may_begin_like_a_credential() {
        let config = read("store.root_key = './credential:x'", Some(FOLDER))
            .unwrap()
            .config;
        assert_eq!(config.store.root_key, Path::new("/etc/credential:x"));
    }

    #[test]
    fn what_systemd_does_not_call_so_is_refused() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "../root.key",
            "a:b",
            "ä",
            long.as_str(),
        ] {
            let line = refusal(
                &format!("store.root_key = 'credential:{name}'"),
                Some(FOLDER),
            );
            assert!(
                line.contains("store.root_key") && line.contains("LoadCredential="),
                "{line}"
            );
        }
        let line = refusal(
            "tls.key = 'credential:k'\ntls.certificate = 'c'",
            Some("here"),
        );
        assert!(
            line.contains("CREDENTIALS_DIRECTORY is not an absolute path"),
            "{line}"
        );
    }

    #[test]
    fn what_is_written_is_not_a_credential() {
        for text in [
            "store.path = 'credential:x'",
            "audit.path = 'credential:x'",
            "listen.socket = 'credential:x'",
            "sockets.pod.path = 'credential:x'\nsockets.pod.principal = 'arn:aws:iam::111122223333:user/a'",
        ] {
            let line = refusal(text, Some(FOLDER));
            assert!(line.contains("a credential can only be read"), "{line}");
        }
    }
}
