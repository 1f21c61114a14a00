//! What a configuration needs of this host, beyond what is in files: folders, open files, memory,
//! and principals in the store.

use crate::cli::failure::Failure;
use crate::config::Config;
use crate::config::sockets::SocketPlace;
use crate::daemon;
use crate::keystore::Snapshot;
use rustix::fs::{Access, access};
use std::path::{Path, PathBuf};

/// Refuses folders without which a daemon does not start.
pub(super) fn check_folders(config: &Config) -> Result<(), Failure> {
    for (setting, path) in folders(config) {
        // The folder of the audit log is made at the start, and so are those above it.
        let path = match existing(&path) {
            Some(existing) if setting == AUDIT => existing,
            _ => &path,
        };
        let folder = path.display();
        let problem = match path.metadata() {
            Ok(found) if found.is_dir() => continue,
            Ok(_) => format!("{folder} is not a folder"),
            Err(_) => format!("the folder {folder} does not exist"),
        };
        return Err(Failure::configuration(format!("{setting}: {problem}")));
    }
    Ok(())
}

/// What an operator should look at, one line each. `snapshot` is that of the store, if there is
/// one.
pub(super) fn warnings(config: &Config, snapshot: Option<&Snapshot>) -> Vec<String> {
    let mut warnings = Vec::new();
    let uid = rustix::process::getuid().as_raw();
    for (setting, path) in folders(config) {
        let Some(folder) = existing(&path) else {
            continue;
        };
        if access(folder, Access::WRITE_OK | Access::EXEC_OK).is_err() {
            let folder = folder.display();
            warnings.push(format!(
                "{setting}: this user (uid {uid}) may not write in {folder}: check as the daemon's user, or change the folder's owner"
            ));
        }
    }
    warnings.extend(few_connections(config));
    warnings.extend(large_pool(config, memory()));
    // Without a store there are no principals yet.
    let strangers = snapshot.map(|snapshot| daemon::Stranger::all(config, snapshot));
    warnings.extend(strangers.iter().flatten().map(ToString::to_string));
    warnings
}

/// The setting of the audit log's folder.
const AUDIT: &str = "audit.path";

/// The folders in which a daemon writes, each with its setting.
fn folders(config: &Config) -> Vec<(String, PathBuf)> {
    let folder_of = |path: &Path| path.parent().unwrap_or(path).to_owned();
    let sockets = config.socket_places().into_iter();
    let sockets = sockets.map(|SocketPlace { setting, path, .. }| (setting, folder_of(path)));
    let store = ("store.path".to_owned(), folder_of(&config.store.path));
    let audit = (AUDIT.to_owned(), config.audit.path.clone());
    sockets.chain([store, audit]).collect()
}

/// The folder itself, or the nearest above it that exists.
fn existing(folder: &Path) -> Option<&Path> {
    folder.ancestors().find(|folder| folder.exists())
}

fn few_connections(config: &Config) -> Option<String> {
    let wanted = config.limits.connections_max;
    match daemon::connections_each(config) {
        Ok(each) if each >= wanted => None,
        Ok(each) => Some(format!(
            "limits.connections_max = {wanted}: with this process's limit of open files, each listener takes {each}: \
             raise the limit where the daemon runs (systemd: LimitNOFILE=; shell: ulimit -Hn), or lower the setting"
        )),
        Err(error) => Some(error.to_string()),
    }
}

/// `memory` is in bytes.
fn large_pool(config: &Config, memory: u64) -> Option<String> {
    let bytes = config.pool.bytes_max();
    (bytes > memory).then(|| {
        let mib = |bytes: u64| bytes >> 20;
        format!(
            "pool.keys_max = {}: so many keys take {} MiB, and this machine has {} MiB of memory",
            config.pool.keys_max,
            mib(bytes),
            mib(memory),
        )
    })
}

/// The bytes of memory of this machine.
fn memory() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.mem_unit).saturating_mul(info.totalram)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_pool_beyond_the_memory_is_told() {
        let mut config = Config::default();
        let bytes = config.pool.bytes_max();
        assert_eq!(large_pool(&config, bytes), None);
        let told = large_pool(&config, bytes - 1).unwrap();
        assert!(
            told.starts_with("pool.keys_max = 4194304: so many keys take 288 MiB"),
            "{told}"
        );
        config.pool.enabled = false;
        assert_eq!(large_pool(&config, 1), None);
        assert!(memory() > 1 << 20);
    }

    #[test]
    fn fewer_connections_than_configured_are_told() {
        let mut config = Config::default();
        config.limits.connections_max = 1;
        assert_eq!(few_connections(&config), None);
        config.limits.connections_max = usize::MAX;
        let told = few_connections(&config).unwrap();
        assert!(told.contains("LimitNOFILE="), "{told}");
    }

    #[test]
    fn a_folder_where_nothing_may_be_written_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        let inside = |name: &str| folder.path().join(name);
        config.listen.socket = inside("k.sock");
        config.store.path = inside("keystore.db");
        config.audit.path = inside("logs/audit");
        assert!(check_folders(&config).is_ok());
        let told = |config: &Config| warnings(config, None).join("\n");
        assert!(
            !told(&config).contains("may not write"),
            "{}",
            told(&config)
        );
        fs::set_permissions(folder.path(), Permissions::from_mode(0o500)).unwrap();
        // Root may write everywhere.
        let is_told = !rustix::process::getuid().is_root();
        for setting in ["listen.socket", "store.path", "audit.path"] {
            let line = format!("{setting}: this user");
            assert_eq!(told(&config).contains(&line), is_told, "{}", told(&config));
        }
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();

        fs::write(inside("logs"), "").unwrap();
        let refused = check_folders(&config).err().unwrap().message;
        assert!(refused.ends_with("logs is not a folder"), "{refused}");
        fs::remove_file(inside("logs")).unwrap();
        config.store.path = inside("absent/keystore.db");
        let refused = check_folders(&config).err().unwrap().message;
        assert!(
            refused.starts_with("store.path: the folder ")
                && refused.ends_with("absent does not exist"),
            "{refused}"
        );
    }
}
