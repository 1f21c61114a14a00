//! The sockets that the service manager passed, each with the setting that names its address.
//!
//! All of them are claimed before anything is bound, so that a socket unit and a configuration that
//! differ are called so, and not an address that is taken.

use crate::config::sockets::SocketPlace;
use crate::config::{Config, SocketMode};
use crate::file::{self, Exposed, Owners};
use crate::service_manager::PassedSockets;
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Sockets that were passed, for the listeners of a configuration.
pub(super) struct Claimed {
    pub(super) tcp: Option<TcpListener>,
    pub(super) admin: Option<TcpListener>,
    /// By the setting of their path.
    pub(super) unix: BTreeMap<String, UnixListener>,
}

/// A socket unit does not fit the configuration: one line that names both.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// No setting has this address.
    #[error(
        "the service manager passed the socket {socket}, which is not an address of the configuration ({configured}): \
         correct ListenStream= in its unit, or the setting"
    )]
    Stranger {
        /// Its address and name.
        socket: String,
        /// The settings and their addresses.
        configured: String,
    },
    /// Its file is not as the configuration wants it.
    #[error("the socket {path} ({setting}) that the service manager passed {problem}")]
    File {
        /// Its path.
        path: PathBuf,
        /// The setting of the path.
        setting: String,
        /// What is wrong, and what to do.
        problem: String,
    },
}

impl Claimed {
    /// Gives each socket to its setting.
    ///
    /// # Errors
    /// [`ClaimError`].
    pub(super) fn of(config: &Config, mut passed: PassedSockets) -> Result<Self, ClaimError> {
        let listen = &config.listen;
        let mut claimed = Self {
            tcp: passed.tcp(listen.tcp),
            admin: passed.tcp(listen.admin),
            unix: BTreeMap::new(),
        };
        for place in config.socket_places() {
            if let Some(listener) = passed.unix(place.path) {
                guard(&place)?;
                claimed.unix.insert(place.setting, listener);
            }
        }
        match passed.left() {
            Some(socket) => Err(ClaimError::Stranger {
                socket,
                configured: configured(config),
            }),
            None => Ok(claimed),
        }
    }

    /// The settings of the sockets, divided by commas.
    pub(super) fn settings(&self) -> String {
        let tcp = [("listen.tcp", &self.tcp), ("listen.admin", &self.admin)];
        let tcp = tcp.into_iter().filter(|(_, passed)| passed.is_some());
        let tcp = tcp.map(|(setting, _)| setting);
        let unix = self.unix.keys().map(String::as_str);
        tcp.chain(unix).collect::<Vec<_>>().join(", ")
    }
}

/// The addresses of the configuration, each with its setting.
fn configured(config: &Config) -> String {
    let listen = &config.listen;
    let mut shown = format!(
        "listen.tcp = {}, listen.admin = {}",
        listen.tcp, listen.admin
    );
    for SocketPlace { setting, path, .. } in config.socket_places() {
        shown.push_str(&format!(", {setting} = {}", path.display()));
    }
    shown
}

/// Checks that a socket's file is there, and that its owner and mode are as configured: by the
/// default of systemd, every user may connect.
fn guard(place: &SocketPlace<'_>) -> Result<(), ClaimError> {
    problem(place.path, place.mode).map_or(Ok(()), |problem| {
        Err(ClaimError::File {
            path: place.path.to_owned(),
            setting: place.setting.clone(),
            problem,
        })
    })
}

fn problem(path: &Path, wanted: SocketMode) -> Option<String> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => metadata,
        _ => return Some("is not at its path any more: restart its unit".to_owned()),
    };
    if let Err(Exposed::Owner { owner, uid }) = file::guard(&metadata, Owners::OwnUserOrRoot, 0) {
        return Some(format!(
            "belongs to uid {owner}, this process runs as uid {uid}: correct SocketUser= in its unit"
        ));
    }
    let mode = SocketMode(metadata.permissions().mode() & 0o777);
    (mode != wanted).then(|| {
        format!(
            "has mode {mode}, and {wanted} is configured: correct SocketMode= in its unit, or the setting"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Socket;
    use std::fs::Permissions;

    fn config(folder: &Path) -> Config {
        let mut config = Config::default();
        config.listen.socket = folder.join("k.sock");
        let further = Socket {
            path: folder.join("pod.sock"),
            mode: SocketMode(0o666),
            principal: None,
            users: BTreeMap::new(),
            groups: BTreeMap::new(),
        };
        config.sockets.insert("pod".to_owned(), further);
        config
    }

    fn bound(path: &Path, mode: u32) -> UnixListener {
        let listener = UnixListener::bind(path).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        listener
    }

    fn refusal(config: &Config, tcp: Vec<TcpListener>, unix: Vec<UnixListener>) -> String {
        let refused = Claimed::of(config, PassedSockets::of(tcp, unix))
            .err()
            .unwrap();
        let line = refused.to_string();
        assert!(!line.contains('\n'), "{line}");
        line
    }

    #[test]
    fn each_socket_goes_to_the_setting_of_its_address() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        let none = Claimed::of(&config, PassedSockets::default()).unwrap();
        assert!(none.tcp.is_none() && none.admin.is_none() && none.unix.is_empty());
        assert_eq!(none.settings(), "");

        let [tcp, admin] = [0; 2].map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap());
        config.listen.tcp = tcp.local_addr().unwrap();
        config.listen.admin = admin.local_addr().unwrap();
        let unix = vec![
            bound(&folder.path().join("pod.sock"), 0o666),
            bound(&folder.path().join("k.sock"), 0o660),
        ];
        let claimed = Claimed::of(&config, PassedSockets::of(vec![admin, tcp], unix)).unwrap();
        let all = "listen.tcp, listen.admin, listen.socket, sockets.pod";
        assert_eq!(claimed.settings(), all);
        let address = |of: &Option<TcpListener>| of.as_ref().unwrap().local_addr().unwrap();
        assert_eq!(address(&claimed.tcp), config.listen.tcp);
        assert_eq!(address(&claimed.admin), config.listen.admin);
        let own = claimed.unix["listen.socket"].local_addr().unwrap();
        assert_eq!(own.as_pathname(), Some(config.listen.socket.as_path()));
    }

    #[test]
    fn an_address_that_no_setting_has_is_refused_beside_those_that_have_one() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap();
        let line = refusal(&config, vec![other], vec![]);
        assert!(
            line.contains(&format!("{address} (keymill.socket)")),
            "{line}"
        );
        assert!(line.contains("listen.tcp = 127.0.0.1:5645"), "{line}");
        let other = bound(&folder.path().join("other.sock"), 0o660);
        let line = refusal(&config, vec![], vec![other]);
        assert!(line.contains("other.sock (keymill.socket)"), "{line}");
        assert!(line.contains("k.sock, sockets.pod = "), "{line}");
    }

    #[test]
    fn another_mode_or_owner_than_is_configured_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let path = &config.listen.socket;
        for mode in [0o666, 0o600, 0o777] {
            let listener = bound(path, mode);
            let line = refusal(&config, vec![], vec![listener]);
            let expected =
                format!("has mode {mode:04o}, and 0660 is configured: correct SocketMode=");
            assert!(line.contains(&expected), "{line}");
            fs::remove_file(path).unwrap();
        }
        let listener = bound(path, 0o660);
        fs::remove_file(path).unwrap();
        fs::write(path, "").unwrap();
        let line = refusal(&config, vec![], vec![listener]);
        assert!(
            line.contains("(listen.socket)") && line.contains("restart its unit"),
            "{line}"
        );
        fs::remove_file(path).unwrap();
        if rustix::process::geteuid().is_root() {
            let listener = bound(path, 0o660);
            std::os::unix::fs::chown(path, Some(4242), None).unwrap();
            let line = refusal(&config, vec![], vec![listener]);
            assert!(line.contains("belongs to uid 4242"), "{line}");
        }
    }
}
