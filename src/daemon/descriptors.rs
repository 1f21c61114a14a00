//! Open files: how many this process may have, and how many of them connections may use.
//!
//! Callers that are not authenticated can open connections until the listeners are full, and
//! nothing else may suffer from that. So the bounds of all listeners together stay below the limit
//! by a reserve. The reserve is for commits of the store, the next file of the audit log, and files
//! that are read again.

use crate::config::Config;
use crate::transport::admin;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;

/// Descriptors that connections never use. At the same time there may be: the store's database, its
/// log, its shared memory and the memory of its revision, each with a temporary file and its
/// folder; the next audit file with its folder; a file of TLS; and for each listener a connection
/// that was accepted and has no room yet. Those are some 20; the rest is for files that libraries
/// open briefly.
const RESERVE: u64 = 64;
/// The fewest connections of each listener with which serving makes sense.
const CONNECTIONS_MIN: u64 = 8;

/// The process may have too few open files to serve.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process may have {limit} open files, and needs {needed} to serve: raise the limit (systemd: LimitNOFILE={needed}; shell: ulimit -n {needed})"
)]
pub struct TooFew {
    limit: u64,
    needed: u64,
}

/// How many connections each listener of `config` takes in a process with the limits of this one:
/// at most `limits.connections_max`.
///
/// # Errors
/// [`TooFew`].
pub fn connections_each(config: &Config) -> Result<usize, TooFew> {
    Descriptors::raised().connections(
        1 + config.socket_places().len(),
        admin::CONNECTIONS_MAX,
        config.limits.connections_max,
    )
}

/// The descriptors of a daemon.
#[derive(Clone, Copy)]
pub(super) struct Descriptors {
    /// How many this process may have.
    limit: u64,
    /// How many are open before there is a connection.
    open: u64,
}

impl Descriptors {
    /// Raises the limit as far as this process may, and counts the open descriptors.
    pub(super) fn raised() -> Self {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        // This is refused where the hard limit exceeds the kernel's own; only the limit that is
        // read back counts.
        let _unchanged = setrlimit(Resource::Nofile, raised);
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let open = fs::read_dir("/proc/self/fd").map_or(RESERVE, |open| open.count() as u64);
        Self { limit, open }
    }

    /// The connections for each of `listeners`, at most `wanted`, besides `admin` on the admin
    /// listener. Fewer than `wanted` are logged.
    ///
    /// # Errors
    /// [`TooFew`].
    pub(super) fn connections(
        self,
        listeners: usize,
        admin: usize,
        wanted: usize,
    ) -> Result<usize, TooFew> {
        let (listeners, admin, wanted) = (listeners as u64, admin as u64, wanted as u64);
        let taken = self.open.saturating_add(RESERVE + admin);
        let needed = |each: u64| taken.saturating_add(listeners.saturating_mul(each));
        let each = self.limit.saturating_sub(taken) / listeners.max(1);
        if each < CONNECTIONS_MIN.min(wanted) {
            return Err(TooFew {
                limit: self.limit,
                needed: needed(CONNECTIONS_MIN),
            });
        }
        if each < wanted {
            tracing::warn!(
                connections_max = each,
                configured = wanted,
                open_files_max = self.limit,
                needed = needed(wanted),
                "each listener takes fewer connections than limits.connections_max, because this process may not have more open files: \
                 raise the limit (systemd: LimitNOFILE=; shell: ulimit -Hn), or lower the setting"
            );
        }
        // At most `wanted`, which is a `usize`.
        Ok(usize::try_from(each.min(wanted)).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(limit: u64, listeners: usize, wanted: usize) -> Result<usize, TooFew> {
        Descriptors { limit, open: 40 }.connections(listeners, 64, wanted)
    }

    #[test]
    fn hold_1_listeners_together_leave_the_reserve() {
        assert_eq!(shared(u64::MAX, 2, 4096), Ok(4096));
        assert_eq!(shared(40 + 64 + 64 + 2 * 4096, 2, 4096), Ok(4096));
        for (limit, listeners, each) in [(8359, 2, 4095), (256, 2, 44), (256, 3, 29), (256, 1, 88)]
        {
            assert_eq!(shared(limit, listeners, 4096), Ok(each));
            let together = each as u64 * listeners as u64;
            assert!(together + 64 + 40 + RESERVE <= limit);
        }
        assert_eq!(shared(256, 2, 20), Ok(20));
        assert_eq!(shared(170, 2, 1), Ok(1));
    }

    #[test]
    fn hold_1_too_few_to_serve_with_are_refused_with_what_to_do() {
        let refused = shared(180, 2, 4096).unwrap_err();
        assert_eq!(
            refused,
            TooFew {
                limit: 180,
                needed: 184
            }
        );
        assert!(refused.to_string().contains("ulimit -n 184"), "{refused}");
        assert_eq!(shared(184, 2, 4096), Ok(8));
        assert!(shared(0, 2, 1).is_err());
    }

    #[test]
    fn the_limit_is_raised_to_the_most_that_is_allowed() {
        let raised = Descriptors::raised();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(raised.limit, limit.current.unwrap_or(u64::MAX));
        // Standard input, output and error, and the folder in which they were counted.
        assert!(raised.open >= 4);
    }
}
