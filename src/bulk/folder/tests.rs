//! Folders that others have prepared.

use super::*;
use crate::file::ANYBODY_WRITES;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn open(path: &Path) -> Result<Folder, JobError> {
    Folder::open(&path.to_owned().into())
}

fn error_of(opened: Result<Folder, JobError>) -> String {
    opened.err().expect("must be refused").to_string()
}

fn fifo(path: &Path) {
    let (kind, mode) = (
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
    );
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
}

/// Without the fix an empty file comes to be where the link leads, and a part is written over its
/// target.
#[test]
fn folder_2_links_of_others_lead_a_job_nowhere() {
    let elsewhere = tempfile::tempdir().unwrap();
    let (victim, absent) = (
        elsewhere.path().join("victim"),
        elsewhere.path().join("absent"),
    );
    fs::write(&victim, "precious").unwrap();
    for target in [&victim, &absent] {
        let out = tempfile::tempdir().unwrap();
        symlink(target, out.path().join(LOCK)).unwrap();
        let said = error_of(open(out.path()));
        assert!(
            said.contains("it is a symbolic link, not a regular file"),
            "{said}"
        );
    }
    assert!(!absent.exists());

    // Placed while the job runs, in the place of what it is about to write.
    let out = tempfile::tempdir().unwrap();
    let folder = open(out.path()).unwrap();
    symlink(&victim, folder.path("_part-00000.parquet.partial")).unwrap();
    symlink(&victim, folder.path("_plan.json.partial")).unwrap();
    let mut file = folder.begin("part-00000.parquet").unwrap();
    file.write_all(b"rows").unwrap();
    folder.finish(file).unwrap();
    folder.write_json(PLAN, &"plan").unwrap();
    assert_eq!(
        fs::read(folder.path("part-00000.parquet")).unwrap(),
        b"rows"
    );
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    // Nor is a part read through a link.
    symlink(&victim, folder.path("part-00001.parquet")).unwrap();
    assert!(folder.measure("part-00001.parquet").is_err());
}

/// It hangs without the fix.
#[test]
fn folder_1_a_fifo_in_the_place_of_a_file_of_a_job_is_refused() {
    let out = tempfile::tempdir().unwrap();
    fifo(&out.path().join(LOCK));
    let said = error_of(open(out.path()));
    assert!(
        said.contains("_lock: it is a FIFO, not a regular file"),
        "{said}"
    );
}

#[test]
fn folder_3_a_folder_that_every_user_may_write_is_refused() {
    let out = tempfile::tempdir().unwrap();
    let set = |mode| fs::set_permissions(out.path(), Permissions::from_mode(mode)).unwrap();
    for mode in [0o777, 0o733, 0o702] {
        set(mode);
        let said = error_of(open(out.path()));
        let expected = format!("mode {mode:04o}");
        assert!(
            said.contains(&expected) && said.contains("chmod o-w"),
            "{said}"
        );
        assert_eq!(
            fs::read_dir(out.path()).unwrap().count(),
            0,
            "left as it was"
        );
    }
    // The entries of a sticky folder stay in their places; a group is warned of.
    for mode in [0o700, 0o755, 0o775, 0o1777] {
        set(mode);
        open(out.path()).unwrap().close().unwrap();
    }
    // One that a job makes is not open, whatever the umask.
    let made = out.path().join("made");
    open(&made).unwrap();
    assert_eq!(fs::metadata(&made).unwrap().mode() & ANYBODY_WRITES, 0);
}

#[test]
fn parts_are_in_the_folders_of_their_names() {
    let out = tempfile::tempdir().unwrap();
    let (first, second) = (
        "a=1/b=x%20y/part-00000.parquet",
        "a=2/b=z/part-00001.parquet",
    );
    {
        let folder = open(out.path()).unwrap();
        folder.write_json(MANIFEST, &"of a job").unwrap();
        for name in [first, second] {
            let mut file = folder.begin(name).unwrap();
            file.write_all(b"rows").unwrap();
            assert_eq!(folder.finish(file).unwrap(), folder.measure(name).unwrap());
        }
        drop(folder.begin("a=3/part-00002.parquet").unwrap());
        assert!(!folder.path("a=3").exists(), "made for what is finished");
    }
    let folder = open(out.path()).unwrap();
    let parts = folder.parts().unwrap();
    assert!(
        parts
            .into_iter()
            .eq([first, second].map(|name| (name.to_owned(), 4)))
    );
    drop(folder);
    for foreign in ["a=1/x.parquet", "a=1/b/part-00003.parquet", "a=1/_lock"] {
        let path = out.path().join(foreign);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"x").unwrap();
        let said = error_of(open(out.path()));
        assert!(said.contains("is not part of a job"), "{foreign}: {said}");
        fs::remove_file(&path).unwrap();
        fs::remove_dir(path.parent().unwrap()).ok();
    }
    let set = |mode| fs::set_permissions(out.path().join("a=1"), Permissions::from_mode(mode));
    set(0o777).unwrap();
    let said = error_of(open(out.path()));
    assert!(said.contains("a=1, mode 0777"), "{said}");
    set(0o755).unwrap();
    // Without its manifest a part is of another job, wherever it is.
    fs::remove_file(out.path().join(MANIFEST)).unwrap();
    let said = error_of(open(out.path()));
    assert!(said.contains("is not part of a job"), "{said}");
}

#[test]
fn folder_1_no_part_is_written_into_what_a_link_leads_to() {
    let (elsewhere, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = open(out.path()).unwrap();
    symlink(elsewhere.path(), folder.path("a=1")).unwrap();
    let file = folder.begin("a=1/part-00000.parquet").unwrap();
    assert!(folder.finish(file).is_err());
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    drop(folder);
    let said = error_of(open(out.path()));
    assert!(
        said.contains("a=1 is not part of a job that can be resumed"),
        "{said}"
    );
}
