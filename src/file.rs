//! Who owns a file or folder and who else may touch it: one check for every file that the daemon
//! trusts because of its place. How such files are opened is in [`open`].
//!
//! This module reads nothing and does not decide whether a finding is an error or a warning.

pub mod open;
pub mod secret;

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// Permission bits that let users other than the owner write.
pub const OTHERS_WRITE: u32 = 0o022;
/// Permission bits that let users other than the owner do anything.
const OTHERS_TOUCH: u32 = 0o077;
/// The permission bits of a credential of systemd: it cannot be written, and others have no right.
const CREDENTIAL_MODE: u32 = 0o440;
/// The permission bit that lets every user of the machine write.
pub const ANYBODY_WRITES: u32 = 0o002;
/// In a folder with this bit, only the owner of an entry may replace it.
const STICKY: u32 = 0o1000;

/// The permitted owners of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// The user that this process runs as.
    OwnUser,
    /// The user that this process runs as, or root.
    OwnUserOrRoot,
}

/// Why other users can touch a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposed {
    /// Another user owns it and may do anything with it.
    Owner {
        /// The owner.
        owner: u32,
        /// The user that this process runs as.
        uid: u32,
    },
    /// Its permission bits let other users touch it.
    Mode {
        /// The bits.
        mode: u32,
    },
}

/// Checks that the file of `metadata` belongs to `owners` and has none of the permission bits
/// `forbidden`. Pass the metadata of an open file: then the file that was checked is the file that
/// is read.
///
/// # Errors
/// [`Exposed`]. The mode is checked first, because it can be corrected without root.
pub fn guard(metadata: &Metadata, owners: Owners, forbidden: u32) -> Result<(), Exposed> {
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    let uid = rustix::process::geteuid().as_raw();
    if mode & forbidden != 0 {
        return Err(Exposed::Mode { mode });
    }
    if owner != uid && !(owner == 0 && owners == Owners::OwnUserOrRoot) {
        return Err(Exposed::Owner { owner, uid });
    }
    Ok(())
}

/// Checks that no user but this process's, and root, may read the file of `metadata` or write it,
/// and that it belongs to `owners`. A credential of systemd is such a file as well: it belongs to
/// root, and its group's right to read is the mask of an ACL with one entry, for the unit's user.
/// (Where a file system has no ACLs, systemd gives the file to that user. Source: systemd 252,
/// `write_credential` in src/core/execute.c.)
///
/// # Errors
/// [`Exposed`].
pub fn guard_secret(metadata: &Metadata, owners: Owners) -> Result<(), Exposed> {
    let is_roots = metadata.uid() == 0 && metadata.gid() == 0;
    if is_roots && metadata.mode() & 0o7777 & !CREDENTIAL_MODE == 0 {
        return Ok(());
    }
    guard(metadata, owners, OTHERS_TOUCH)
}

/// Checks that only this process's user and root can replace an entry of this folder that belongs
/// to one of the two.
///
/// # Errors
/// [`Exposed`].
pub fn guard_folder(metadata: &Metadata) -> Result<(), Exposed> {
    let sticky = metadata.mode() & STICKY != 0;
    let forbidden = if sticky { 0 } else { OTHERS_WRITE };
    guard(metadata, Owners::OwnUserOrRoot, forbidden)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown};

    fn metadata_with(mode: u32) -> (tempfile::TempDir, Metadata) {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
        let metadata = fs::metadata(folder.path()).unwrap();
        (folder, metadata)
    }

    #[test]
    fn forbidden_bits_are_found_and_others_are_not() {
        for (mode, forbidden, is_exposed) in [
            (0o700, 0o077, false),
            (0o740, 0o077, true),
            (0o755, OTHERS_WRITE, false),
            (0o775, OTHERS_WRITE, true),
            (0o775, ANYBODY_WRITES, false),
            (0o777, ANYBODY_WRITES, true),
        ] {
            let (_folder, metadata) = metadata_with(mode);
            let found = guard(&metadata, Owners::OwnUser, forbidden);
            let expected = if is_exposed {
                Err(Exposed::Mode { mode })
            } else {
                Ok(())
            };
            assert_eq!(found, expected, "{mode:o} {forbidden:o}");
        }
    }

    #[test]
    fn a_sticky_folder_keeps_its_entries_in_their_places() {
        let (_folder, metadata) = metadata_with(0o777);
        assert_eq!(guard_folder(&metadata), Err(Exposed::Mode { mode: 0o777 }));
        for mode in [0o1777, 0o755] {
            let (_folder, metadata) = metadata_with(mode);
            assert_eq!(guard_folder(&metadata), Ok(()));
        }
    }

    #[test]
    fn a_secret_is_its_owners_or_a_credential_of_systemd() {
        let uid = rustix::process::geteuid().as_raw();
        let (folder, _) = metadata_with(0o700);
        let path = folder.path().join("secret");
        fs::write(&path, "").unwrap();
        let found = |mode, owner: Option<(u32, u32)>| {
            if let Some((uid, gid)) = owner {
                chown(&path, Some(uid), Some(gid)).unwrap();
            }
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            guard_secret(&path.metadata().unwrap(), Owners::OwnUser)
        };
        assert_eq!(found(0o600, None), Ok(()));
        assert_eq!(found(0o604, None), Err(Exposed::Mode { mode: 0o604 }));
        if uid != 0 {
            assert_eq!(found(0o440, None), Err(Exposed::Mode { mode: 0o440 }));
            return;
        }
        for mode in [0o400, 0o440] {
            assert_eq!(found(mode, Some((0, 0))), Ok(()), "{mode:o}");
        }
        // Wider than systemd makes them, or for a group of which others may be.
        for (mode, gid) in [
            (0o640, 0),
            (0o444, 0),
            (0o460, 0),
            (0o450, 0),
            (0o440, 4242),
        ] {
            assert_eq!(
                found(mode, Some((0, gid))),
                Err(Exposed::Mode { mode }),
                "{mode:o}"
            );
        }
        let owner = Exposed::Owner { owner: 4242, uid };
        assert_eq!(found(0o400, Some((4242, 0))), Err(owner));
    }

    #[test]
    fn what_belongs_to_somebody_else_is_found() {
        let uid = rustix::process::geteuid().as_raw();
        let root = fs::metadata("/").unwrap();
        assert_eq!(guard(&root, Owners::OwnUserOrRoot, 0), Ok(()));
        if uid != 0 {
            let found = guard(&root, Owners::OwnUser, 0);
            assert_eq!(found, Err(Exposed::Owner { owner: 0, uid }));
            return;
        }
        let (folder, _) = metadata_with(0o700);
        chown(folder.path(), Some(4242), None).unwrap();
        let metadata = fs::metadata(folder.path()).unwrap();
        let found = guard(&metadata, Owners::OwnUserOrRoot, 0);
        assert_eq!(found, Err(Exposed::Owner { owner: 4242, uid }));
    }
}
