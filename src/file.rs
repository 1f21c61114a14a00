//! Whose a file or folder is, and who else may touch it: one check for everything that the daemon
//! believes because of where it lies. How such files are opened is in [`open`].
//!
//! What this module does not do: read anything, or decide whether a finding is an error or a
//! warning.

pub mod open;

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// Permission bits that let others than the owner write.
pub const OTHERS_WRITE: u32 = 0o022;
/// The permission bit that lets every user of the machine write.
pub const ANYBODY_WRITES: u32 = 0o002;
/// In such a folder only the owner of an entry may replace it.
const STICKY: u32 = 0o1000;

/// To whom something may belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// The user that this process runs as.
    OwnUser,
    /// The same, or root.
    OwnUserOrRoot,
}

/// What lets others touch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposed {
    /// It belongs to somebody else, who may do with it what they like.
    Owner {
        /// Its owner.
        owner: u32,
        /// The user that this process runs as.
        uid: u32,
    },
    /// Its permission bits let them.
    Mode {
        /// The bits.
        mode: u32,
    },
}

/// Checks that what `metadata` is of belongs to `owners`, and has none of the permission bits
/// `forbidden`. Let it be the metadata of an open file: then what was checked is what is read.
///
/// # Errors
/// [`Exposed`]; of its mode first, since that is mended without root.
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

/// Checks that nobody but this process's user and root may put something else in the place of an
/// entry of this folder that belongs to one of the two.
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
