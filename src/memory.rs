//! Keeps secrets out of files that outlive the process: no swap, no core dump (POOL-9).
//!
//! Not protected: the image of a hibernated machine, and reads by a process that may read this
//! one's memory.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{CapabilitySet, capabilities};
use std::io;

/// The smallest limit, in bytes, under which all memory is locked. Once future mappings are locked
/// too, a limit makes mappings fail, which no allocator survives. Address space that is only
/// reserved (arenas, thread stacks) counts in full.
const LOCKED_BYTES_MIN: u64 = 64 << 30;

/// Why memory was not locked and may be swapped out.
#[derive(Debug, thiserror::Error)]
pub enum Unlocked {
    /// The limit is too small.
    #[error(
        "the limit on locked memory is {0} bytes: raise it to unlimited (systemd: LimitMEMLOCK=infinity; shell: ulimit -l unlimited)"
    )]
    Limit(u64),
    /// The kernel refused.
    #[error("the kernel refused to lock memory: {0}")]
    Refused(#[from] io::Error),
}

/// Locks all present and future memory, each page when it is first touched.
///
/// # Errors
/// [`Unlocked`]; nothing is locked.
pub fn lock() -> Result<(), Unlocked> {
    let limit = getrlimit(Resource::Memlock);
    // A process may raise its own soft limit; a refusal shows when the limit is read back.
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _unchanged = setrlimit(Resource::Memlock, raised);
    let privileged =
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    if let Some(bytes) = getrlimit(Resource::Memlock).current
        && bytes < LOCKED_BYTES_MIN
        && !privileged
    {
        return Err(Unlocked::Limit(bytes));
    }
    // On first touch: otherwise every reserved page would be made resident at once.
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    mlockall(flags).map_err(|error| Unlocked::Refused(error.into()))
}

/// Forbids core dumps of this process, and forbids other processes of its user to read its memory.
///
/// # Errors
/// The error of the operating system.
pub fn forbid_dumps() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    Ok(setrlimit(Resource::Core, none)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::dumpable_behavior;

    #[test]
    fn pool_9_no_core_file_can_be_written() {
        forbid_dumps().unwrap();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
    }

    #[test]
    fn a_refusal_says_what_to_raise() {
        let text = Unlocked::Limit(65_536).to_string();
        assert!(
            text.contains("65536 bytes") && text.contains("LimitMEMLOCK"),
            "{text}"
        );
    }
}
