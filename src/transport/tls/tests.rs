//! Which TLS files are accepted. Tests of what clients see are in `tests/it/server/tls.rs`.

use super::*;
use rcgen::{CertificateParams, KeyPair};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

struct Files {
    config: Config,
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            certificate: folder.path().join("server.pem"),
            key: folder.path().join("server.key"),
            ..Config::default()
        };
        let files = Self { config, folder };
        let (certificate, key) = issued();
        fs::write(&files.config.certificate, certificate).unwrap();
        fs::write(&files.config.key, key).unwrap();
        files.set_mode(0o640);
        files
    }

    fn set_mode(&self, mode: u32) {
        fs::set_permissions(&self.config.key, Permissions::from_mode(mode)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn check(&self) -> Result<(), String> {
        Tls::check(&self.config, &Clock::system()).map_err(|error| error.to_string())
    }

    fn refusal(&self) -> String {
        let line = self.check().unwrap_err();
        assert!(!line.contains('\n'), "{line}");
        line
    }
}

/// A self-signed certificate, and its key.
fn issued() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn put(path: &Path, text: impl AsRef<[u8]>) {
    fs::write(path, text).unwrap();
}

#[test]
fn a_key_that_too_many_may_read_is_refused() {
    let files = Files::new();
    for mode in [0o600, 0o400, 0o640, 0o440, 0o700] {
        files.set_mode(mode);
        assert_eq!(files.check(), Ok(()), "{mode:o}");
    }
    let key = files.config.key.display().to_string();
    for mode in [0o644, 0o660, 0o604, 0o602, 0o601, 0o650, 0o666] {
        files.set_mode(mode);
        let expected =
            format!("TLS key {key} has mode {mode:04o}: allow no more than 0640 (chmod 640 {key})");
        assert_eq!(files.refusal(), expected);
    }
}

#[test]
fn a_key_of_somebody_else_is_refused() {
    let files = Files::new();
    let key = &files.config.key;
    // Only root can give a file to another user.
    if rustix::process::geteuid().is_root() {
        chown(key, Some(4242), None).unwrap();
        assert!(
            files
                .refusal()
                .contains("belongs to uid 4242, this process runs as uid 0")
        );
    }
}

#[test]
fn certificate_and_key_belong_together() {
    let files = Files::new();
    let (other_certificate, other_key) = issued();
    put(&files.config.key, &other_key);
    assert!(
        files
            .refusal()
            .contains("does not belong to the first certificate of")
    );
    // In one file, in any order, and followed by a chain.
    let own = format!("{other_key}{other_certificate}{}", issued().0);
    put(&files.config.key, own);
    let config = Config {
        certificate: files.config.key.clone(),
        ..files.config.clone()
    };
    let one = Files { config, ..files };
    assert_eq!(one.check(), Ok(()));
}

#[test]
fn files_that_hold_something_else_are_named_with_what_is_missing() {
    let files = Files::new();
    let certificate = fs::read(&files.config.certificate).unwrap();
    let key = fs::read(&files.config.key).unwrap();
    for (text, problem) in [
        (&b""[..], "contains no certificate in PEM"),
        (b"nonsense", "contains no certificate in PEM"),
        (&key, "contains no certificate in PEM"),
        (
            b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
            "cannot be used",
        ),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "not a certificate of X.509",
        ),
        (&certificate[..certificate.len() - 40], "cannot be used"),
    ] {
        put(&files.config.certificate, text);
        let line = files.refusal();
        let path = files.config.certificate.display().to_string();
        assert!(line.starts_with(&path) && line.contains(problem), "{line}");
    }
    put(&files.config.certificate, &certificate);
    for (text, problem) in [
        (
            &certificate[..],
            "contains no private key without a passphrase in PEM",
        ),
        (
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "contains no private key without a passphrase in PEM",
        ),
        (
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "cannot be used",
        ),
        (&key[..key.len() - 40], "damaged PEM"),
    ] {
        put(&files.config.key, text);
        let line = files.refusal();
        assert!(line.contains(problem), "{line}");
        let secret = String::from_utf8_lossy(&key[40..60]).into_owned();
        assert!(!line.contains(&secret), "{line}");
    }
    fs::remove_file(&files.config.key).unwrap();
    assert!(files.refusal().contains("server.key: No such file"));
}

#[test]
fn authorities_and_lists_are_checked_as_well() {
    let mut files = Files::new();
    files.config.client_ca = files.path("ca.pem");
    assert!(files.refusal().contains("ca.pem: No such file"));
    put(
        &files.config.client_ca,
        fs::read(&files.config.key).unwrap(),
    );
    assert!(
        files
            .refusal()
            .contains("ca.pem contains no certificate in PEM")
    );
    put(
        &files.config.client_ca,
        fs::read(&files.config.certificate).unwrap(),
    );
    assert_eq!(files.check(), Ok(()));
    files.config.client_crl = files.path("crl.pem");
    put(&files.config.client_crl, "");
    assert!(
        files
            .refusal()
            .contains("crl.pem contains no certificate revocation list in PEM")
    );
    put(
        &files.config.client_crl,
        b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
    );
    assert!(files.refusal().contains("crl.pem cannot be used: "));
}

#[test]
fn a_file_without_end_is_not_read_to_its_end() {
    let mut files = Files::new();
    let large = fs::File::create(files.path("large.pem")).unwrap();
    large.set_len(17 * 1024 * 1024).unwrap();
    files.config.certificate = files.path("large.pem");
    assert!(files.refusal().contains("more than 16777216 bytes"));
    // A device is not opened at all.
    files.config.certificate = "/dev/zero".into();
    let refusal = files.refusal();
    assert!(refusal.contains("regular file"), "{refusal}");
}
