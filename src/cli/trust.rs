//! Who else may change a configuration. It says who is who on the Unix sockets, so that a user
//! who may write it is the administrator.

use crate::cli::failure::Failure;
use crate::file::{self, ANYBODY_WRITES, Exposed, OTHERS_WRITE, Owners};
use std::fs;
use std::path::Path;

/// Refuses a configuration file that belongs to another user than this process's and root, or that
/// every user of the machine may write. Warns where a group may write the file, and where others
/// may put another file in its place in the folder. These are not refused, because some machines
/// make all files so, and the folder of a Kubernetes `ConfigMap` is open to every user on a file
/// system that is read-only.
///
/// # Errors
/// [`Failure`] that says what to do. A missing file is not an error here: reading it reports that.
pub(super) fn configuration(file: &Path) -> Result<Vec<String>, Failure> {
    let Ok(metadata) = fs::metadata(file) else {
        return Ok(Vec::new());
    };
    let guarded = file::guard(&metadata, Owners::OwnUserOrRoot, ANYBODY_WRITES);
    guarded.map_err(|exposed| Failure::configuration(problem("configuration", file, exposed)))?;
    let mut warnings = Vec::new();
    if let Err(exposed) = file::guard(&metadata, Owners::OwnUserOrRoot, OTHERS_WRITE) {
        warnings.push(problem("configuration", file, exposed));
    }
    let folder = file
        .parent()
        .filter(|path| !path.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let guarded = fs::metadata(folder).map(|metadata| file::guard_folder(&metadata));
    if let Ok(Err(exposed)) = guarded {
        warnings.push(problem("the configuration's folder", folder, exposed));
    }
    Ok(warnings)
}

fn problem(what: &str, path: &Path, exposed: Exposed) -> String {
    let path = path.display();
    match exposed {
        Exposed::Owner { owner, uid } => format!(
            "{what} {path} belongs to uid {owner}, this process runs as uid {uid}: change its owner (chown {uid} {path}, or root)"
        ),
        Exposed::Mode { mode } => format!(
            "{what} {path} has mode {mode:04o}, so that others may write it: take that from them (chmod go-w {path})"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown};

    #[test]
    fn hold_3_a_configuration_that_others_may_change_is_refused_or_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keymill.toml");
        fs::write(&file, "").unwrap();
        let set = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        for (of_file, of_folder, warnings) in [
            (0o600, 0o700, 0),
            (0o644, 0o755, 0),
            (0o664, 0o755, 1),
            (0o644, 0o775, 1),
            (0o644, 0o1777, 0),
            (0o664, 0o777, 2),
        ] {
            set(&file, of_file);
            set(folder.path(), of_folder);
            let told = configuration(&file).ok().unwrap();
            assert_eq!(told.len(), warnings, "{told:?}");
            assert!(told.iter().all(|line| line.contains("chmod go-w")));
        }
        set(&file, 0o646);
        let refused = configuration(&file).err().unwrap();
        assert!(refused.message.contains("mode 0646"), "{}", refused.message);
        set(&file, 0o600);
        if rustix::process::geteuid().is_root() {
            chown(&file, Some(4242), None).unwrap();
            let refused = configuration(&file).err().unwrap();
            let owner = "belongs to uid 4242";
            assert!(refused.message.contains(owner), "{}", refused.message);
        }
        fs::remove_file(&file).unwrap();
        assert!(configuration(&file).is_ok_and(|told| told.is_empty()));
    }
}
