//! The name of a node among those of a shared store: 32 hexadecimal digits in a file of their own,
//! drawn at the node's first start. The head of its audit log is kept under this name, so a log
//! that was removed as a whole is missed.

use crate::crypto::entropy::Entropy;
use crate::file::open;
use crate::keystore::KeystoreError;
use std::io::{self, ErrorKind};
use std::path::Path;

/// The ending of the file.
const ENDING: &str = "node";
/// The digits of a name.
const DIGITS: usize = 32;

/// Whether this is the name of a node.
pub(super) fn is_name(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == DIGITS && text.bytes().all(is_digit)
}

/// The name in the file beside `path`, which is made if it is not there.
pub(super) fn name(path: &Path, entropy: &Entropy) -> Result<String, KeystoreError> {
    if let Some(known) = known(path)? {
        return Ok(known);
    }
    let path = path.with_extension(ENDING);
    let mut bytes = [0; DIGITS / 2];
    entropy.draw(&mut bytes)?;
    let name = hex_simd::encode_to_string(bytes, hex_simd::AsciiCase::Lower);
    let written = open::write_whole(&path, format!("{name}\n").as_bytes(), 0o600);
    written.map_err(|source| KeystoreError::Io { path, source })?;
    Ok(name)
}

/// The name in the file beside `path`; `None` where this host has never been a node.
pub(super) fn known(path: &Path) -> Result<Option<String>, KeystoreError> {
    let path = path.with_extension(ENDING);
    let failed = |source: io::Error| KeystoreError::Io {
        path: path.clone(),
        source,
    };
    match open::own_text(&path, DIGITS as u64 + 1) {
        Ok(text) => {
            let text = text.trim_end();
            let damaged = || {
                let reason =
                    "it is not the name of a node: remove it, and this node gets a new one";
                failed(io::Error::new(ErrorKind::InvalidData, reason))
            };
            let name = is_name(text).then(|| text.to_owned());
            name.ok_or_else(damaged).map(Some)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("keystore.db");
        let drawn = name(&store, &Entropy::os()).unwrap();
        assert!(is_name(&drawn));
        assert_eq!(name(&store, &Entropy::os()).unwrap(), drawn);
        let file = folder.path().join("keystore.node");
        for damaged in [
            "",
            "x",
            &drawn[1..],
            &drawn.to_uppercase(),
            &format!("{drawn}0"),
        ] {
            std::fs::write(&file, damaged).unwrap();
            let refused = name(&store, &Entropy::os()).unwrap_err().to_string();
            assert!(refused.contains("keystore.node"), "{refused}");
        }
        std::fs::remove_file(&file).unwrap();
        assert_ne!(name(&store, &Entropy::os()).unwrap(), drawn);
    }
}
