//! Who owns a file or folder and who else may touch it: one check for every file that the daemon
//! trusts because of its place. How such files are opened is in [`open`].
//!
//! This module reads nothing and does not decide whether a finding is an error or a warning.

pub mod open;

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// Permission bits that let users other than the owner write.
pub const OTHERS_WRITE: u32 = 0o022;
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
