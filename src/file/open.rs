//! Opens files and refuses anything that is not a regular file, without following or waiting.
//!
//! There are two kinds of files. A file that a user names (a table, a configuration, a certificate)
//! may be reached through links, as the files of a Kubernetes `ConfigMap` are. A file of ours has
//! one name in a folder of ours: a link there was made by another program and may lead to a file
//! that we must not touch. In both cases only a regular file is opened: a FIFO would block the
//! process until another process writes into it, and a device may do anything.
//!
//! This module does not read the files and does not check who owns them (see `super`).

use rustix::fs::OFlags;
use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Opens for reading a file that a user has named. Links are followed.
///
/// # Errors
/// The error of the operating system, or that it is not a regular file.
pub fn named(path: &Path) -> io::Result<File> {
    regular(&fs::metadata(path)?)?;
    open(OpenOptions::new().read(true), OFlags::empty(), path)
}

/// Reads a text file that a user has named.
///
/// # Errors
/// The errors of [`named`], or that the file has more than `bytes_max` bytes or is not UTF-8.
pub fn named_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    text(named_bytes(path, bytes_max)?)
}

/// Reads a file that a user has named.
///
/// # Errors
/// The errors of [`named`], or that the file has more than `bytes_max` bytes.
pub fn named_bytes(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    bytes(named(path)?, bytes_max)
}

/// Reads a text file of ours.
///
/// # Errors
/// The errors of [`own`], or that the file has more than `bytes_max` bytes or is not UTF-8.
pub fn own_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    text(bytes(own(path)?, bytes_max)?)
}

fn bytes(file: File, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let problem = format!("it has more than {bytes_max} bytes");
        return Err(io::Error::other(problem));
    }
    Ok(bytes)
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    let text = String::from_utf8(bytes);
    text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// Opens a file of ours for reading.
///
/// # Errors
/// The error of the operating system, or that it is a link or not a regular file.
pub fn own(path: &Path) -> io::Result<File> {
    own_as(OpenOptions::new().read(true), path)
}

/// Opens an existing file of ours for reading and writing.
///
/// # Errors
/// The errors of [`own`].
pub fn own_to_write(path: &Path) -> io::Result<File> {
    own_as(OpenOptions::new().read(true).write(true), path)
}

/// Opens a file of ours for reading and writing, and makes it with these permission bits if it is
/// absent; for locks.
///
/// # Errors
/// The errors of [`own`].
pub fn own_or_new(path: &Path, mode: u32) -> io::Result<File> {
    let mut new_options = OpenOptions::new();
    let options = new_options.read(true).write(true).create(true).mode(mode);
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            open(options, OFlags::NOFOLLOW, path)
        }
        _ => own_as(options, path),
    }
}

/// Makes a new file with these permission bits.
///
/// # Errors
/// `AlreadyExists`, or another error of the operating system.
pub fn new(path: &Path, mode: u32) -> io::Result<File> {
    let mut new_options = OpenOptions::new();
    let options = new_options
        .read(true)
        .write(true)
        .create_new(true)
        .mode(mode);
    open(options, OFlags::NOFOLLOW, path)
}

/// Makes a new file in place of a file that an earlier run left under this name. The old file is
/// removed and not overwritten: if it is a link, the file that it leads to stays unchanged.
///
/// # Errors
/// The error of the operating system; a folder of this name is not removed.
pub fn anew(path: &Path, mode: u32) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => new(path, mode),
    }
}

/// Writes a file that is complete or absent: under a temporary name first, then in place of the
/// file that was there. It is durable when this returns.
///
/// # Errors
/// The error of the operating system.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    let mut file = anew(temporary, mode)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    let folder = path.parent().filter(|path| !path.as_os_str().is_empty());
    sync_folder(folder.unwrap_or(Path::new(".")))
}

/// Opens a folder, to make the names in it durable with fsync.
///
/// # Errors
/// The error of the operating system, or that it is not a folder.
pub fn folder(path: &Path) -> io::Result<File> {
    open_as(OpenOptions::new().read(true), OFlags::DIRECTORY, path)
}

/// Makes the names in a folder durable.
///
/// # Errors
/// The error of the operating system.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    folder(path)?.sync_all()
}

fn own_as(options: &OpenOptions, path: &Path) -> io::Result<File> {
    regular(&fs::symlink_metadata(path)?)?;
    open(options, OFlags::NOFOLLOW, path)
}

/// Opens the file and checks it again: another file may have come to this place since the first
/// check.
fn open(options: &OpenOptions, flags: OFlags, path: &Path) -> io::Result<File> {
    let file = open_as(options, flags | OFlags::NONBLOCK | OFlags::NOCTTY, path)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

fn open_as(options: &OpenOptions, flags: OFlags, path: &Path) -> io::Result<File> {
    let flags = flags.bits().cast_signed();
    options.clone().custom_flags(flags).open(path)
}

/// Refuses anything that is not a regular file.
///
/// # Errors
/// The kind of file that it is.
pub fn regular(metadata: &Metadata) -> io::Result<()> {
    match metadata.file_type() {
        of if of.is_file() => Ok(()),
        of => Err(io::Error::other(format!(
            "it is {}, not a regular file",
            noun(of)
        ))),
    }
}

fn noun(of: FileType) -> &'static str {
    if of.is_symlink() {
        "a symbolic link"
    } else if of.is_dir() {
        "a folder"
    } else if of.is_fifo() {
        "a FIFO"
    } else if of.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    type Open = fn(&Path) -> io::Result<File>;
    const OF_OURS: [(&str, Open); 4] = [
        ("own", own),
        ("own_to_write", own_to_write),
        ("own_or_new", |path| own_or_new(path, 0o600)),
        ("new", |path| new(path, 0o600)),
    ];

    /// One file of each kind that is not a regular file, by its noun.
    fn others(folder: &Path) -> Vec<(&'static str, PathBuf)> {
        let path = |name: &str| folder.join(name);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        fs::create_dir(path("folder")).unwrap();
        drop(UnixListener::bind(path("socket")).unwrap());
        vec![
            ("a FIFO", path("fifo")),
            ("a folder", path("folder")),
            ("a socket", path("socket")),
            ("a device", PathBuf::from("/dev/null")),
        ]
    }

    /// Without the check this test hangs: a FIFO that no process writes into.
    #[test]
    fn folder_1_what_is_not_a_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        for (noun, path) in others(folder.path()) {
            let expected = format!("it is {noun}, not a regular file");
            for (name, open) in OF_OURS {
                let refused = open(&path).unwrap_err();
                let is_there = refused.kind() == io::ErrorKind::AlreadyExists;
                assert!(
                    refused.to_string() == expected || (name == "new" && is_there),
                    "{name} of {noun}: {refused}"
                );
            }
            assert_eq!(named(&path).unwrap_err().to_string(), expected);
            // The same through a link.
            let link = folder.path().join("link");
            symlink(&path, &link).unwrap();
            assert_eq!(named(&link).unwrap_err().to_string(), expected);
            fs::remove_file(&link).unwrap();
        }
    }

    #[test]
    fn folder_1_what_changes_after_it_was_looked_at_is_refused_too() {
        let folder = tempfile::tempdir().unwrap();
        for (noun, path) in others(folder.path()) {
            let options = &mut OpenOptions::new();
            let refused = open(options.read(true), OFlags::NOFOLLOW, &path).unwrap_err();
            // A socket is not opened in the first place.
            let is_told = refused.to_string().contains(noun) || noun == "a socket";
            assert!(is_told, "{noun}: {refused}");
        }
    }

    #[test]
    fn folder_2_a_link_in_the_place_of_a_file_of_ours_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, link) = (folder.path().join("victim"), folder.path().join("link"));
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &link).unwrap();
        for (name, open) in OF_OURS {
            assert!(open(&link).is_err(), "{name}");
        }
        drop(anew(&link, 0o600).unwrap());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert!(fs::symlink_metadata(&link).unwrap().is_file());
        // A link to a name that does not exist yet is refused too.
        fs::remove_file(&link).unwrap();
        let absent = folder.path().join("absent");
        symlink(&absent, &link).unwrap();
        for (name, open) in OF_OURS {
            assert!(open(&link).is_err(), "{name}");
        }
        assert!(!absent.exists());
        // A file that a user names may be a link.
        fs::remove_file(&link).unwrap();
        symlink(&victim, &link).unwrap();
        assert_eq!(named_text(&link, 8).unwrap(), "precious");
        assert!(named_text(&link, 7).is_err());
        assert!(own_text(&link, 8).is_err());
    }

    #[test]
    fn what_is_there_is_opened_and_what_is_not_is_made() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(own(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(named(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        drop(own_or_new(&path, 0o600).unwrap());
        fs::write(&path, "kept").unwrap();
        drop(own_or_new(&path, 0o644).unwrap());
        drop(own_to_write(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        let refused = new(&path, 0o600).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert!(super::folder(&path).is_err());
        sync_folder(folder.path()).unwrap();
    }
}
