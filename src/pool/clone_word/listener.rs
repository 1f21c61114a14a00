//! What the kernel says of a restored snapshot, heard by a thread of its own.
//!
//! Where the hypervisor offers a VM Generation ID, the kernel's `vmgenid` driver has the random
//! generator reseeded when the id changes, and the kernel's log says so (since Linux 5.18):
//! `random: crng reseeded due to virtual machine fork`. Linux 6.8 also sent a uevent,
//! `NEW_VMGENID=1`; later releases took it out again, and some vendors' kernels have it. Both are
//! heard where they can be, and only the log counts as a source that sees restored snapshots.
//!
//! Records are public formats: `Documentation/ABI/testing/dev-kmsg` and `lib/kobject_uevent.c` of
//! Linux. What this module does not do: say what an event means. It counts them.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, SeekFrom, open, seek};
use rustix::io::{Errno, read};
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use std::fs::read_dir;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// The longest record: the kernel's own bounds are 8 KiB for its log (`CONSOLE_EXT_LOG_MAX`), and
/// 2 KiB behind a path of at most 4 KiB for a uevent (`UEVENT_BUFFER_SIZE`).
const RECORD_BYTES_MAX: usize = 8192;
/// Where a driver lists its devices: since Linux 6.10, and before.
const DRIVERS: [&str; 2] = [
    "/sys/bus/platform/drivers/vmgenid",
    "/sys/bus/acpi/drivers/vmgenid",
];
/// The kernel's own multicast group; udev repeats on another.
const KERNEL_GROUP: u32 = 1;
/// Records of the log whose number is below are the kernel's own; no process can write such.
const KERNEL_PRIORITIES: u32 = 8;

/// One descriptor that gives records, and which of them tell.
pub(super) struct Ear {
    pub(super) name: &'static str,
    descriptor: OwnedFd,
    tells: fn(&[u8]) -> bool,
}

/// The name of the kernel's log as a source.
pub(super) const KERNEL_LOG: &str = "kernel-log";
/// The name of the kernel's uevents as a source.
pub(super) const UEVENT: &str = "uevent";

impl Ear {
    /// All that this machine offers to this process: none without a VM Generation ID.
    pub(super) fn all() -> Vec<Self> {
        if !DRIVERS.iter().any(|driver| has_device(driver)) {
            return Vec::new();
        }
        let heard = |name, opened: rustix::io::Result<OwnedFd>, tells| match opened {
            Ok(descriptor) => Some(Self {
                name,
                descriptor,
                tells,
            }),
            Err(error) => {
                tracing::debug!(name, %error, "a source of the clone word cannot be opened");
                None
            }
        };
        let log = heard(KERNEL_LOG, open_log(), log_tells);
        log.into_iter()
            .chain(heard(UEVENT, open_uevents(), uevent_tells))
            .collect()
    }

    /// Reads one record. Returns whether more may come.
    fn hear(&self, buffer: &mut [u8], events: &AtomicU64) -> bool {
        let (event, more) = match read(&self.descriptor, &mut *buffer) {
            Ok(0) => (false, false),
            Ok(length) => ((self.tells)(&buffer[..length]), true),
            Err(Errno::INTR | Errno::AGAIN) => (false, true),
            // Records were lost before they were read: one of them may have told.
            Err(Errno::NOBUFS | Errno::PIPE) => (true, true),
            Err(error) => {
                tracing::error!(source = self.name, %error, "a source of the clone word is lost");
                (true, false)
            }
        };
        if event {
            events.fetch_add(1, Ordering::SeqCst);
            tracing::warn!(
                source = self.name,
                "the kernel tells of a restored snapshot: what was made before is dropped"
            );
        }
        more
    }
}

/// Whether a driver has a device: a link in its folder, beside that to its module.
fn has_device(driver: &str) -> bool {
    read_dir(driver).is_ok_and(|mut entries| {
        entries.any(|entry| {
            entry.is_ok_and(|entry| {
                entry.file_name() != "module"
                    && entry.file_type().is_ok_and(|kind| kind.is_symlink())
            })
        })
    })
}

/// The kernel's log from here on.
fn open_log() -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let log = open("/dev/kmsg", flags, Mode::empty())?;
    seek(&log, SeekFrom::End(0))?;
    Ok(log)
}

/// Uevents from here on.
fn open_uevents() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (family, kind) = (AddressFamily::NETLINK, SocketType::DGRAM);
    let socket = socket_with(family, kind, flags, Some(KOBJECT_UEVENT))?;
    bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP))?;
    Ok(socket)
}

/// `5,1234,1267569,-;random: crng reseeded due to virtual machine fork\n`: facility and level,
/// number, microseconds, flags; the text; lines of further facts, each indented.
fn log_tells(record: &[u8]) -> bool {
    let mut parts = record.splitn(2, |byte| *byte == b';');
    let (Some(head), Some(rest)) = (parts.next(), parts.next()) else {
        return false;
    };
    let priority = head.split(|byte| *byte == b',').next();
    let priority = priority.and_then(|digits| str::from_utf8(digits).ok()?.parse::<u32>().ok());
    let text = rest.split(|byte| *byte == b'\n').next();
    priority.is_some_and(|priority| priority < KERNEL_PRIORITIES)
        && text.is_some_and(|text| text.ends_with(b"due to virtual machine fork"))
}

/// `change@/devices/platform/VMGENCTR:00\0ACTION=change\0…\0NEW_VMGENID=1\0…\0`. Who sends is not
/// asked: it takes CAP_NET_ADMIN, and a false event costs pooled keys, nothing else.
fn uevent_tells(record: &[u8]) -> bool {
    let mut fields = record.split(|byte| *byte == 0);
    fields.next().is_some_and(|head| head.contains(&b'@'))
        && fields.any(|field| field == b"NEW_VMGENID=1")
}

/// A thread that hears; it ends when this is dropped.
pub(super) struct Listener {
    _stop: UnixStream,
}

impl Listener {
    /// Counts in `events` what the ears hear from now on.
    ///
    /// # Errors
    /// When the operating system refuses a thread or a descriptor.
    pub(super) fn start(ears: Vec<Ear>, events: Arc<AtomicU64>) -> io::Result<Self> {
        let (stop, stopped) = UnixStream::pair()?;
        thread::Builder::new()
            .name("clone-word".to_owned())
            .spawn(move || listen(ears, &stopped, &events))?;
        Ok(Self { _stop: stop })
    }
}

fn listen(mut ears: Vec<Ear>, stopped: &UnixStream, events: &AtomicU64) {
    let mut buffer = [0; RECORD_BYTES_MAX];
    while !ears.is_empty() {
        let descriptors = ears.iter().map(|ear| &ear.descriptor);
        let mut polled: Vec<_> = descriptors
            .map(|descriptor| PollFd::new(descriptor, PollFlags::IN))
            .chain([PollFd::new(stopped, PollFlags::IN)])
            .collect();
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                tracing::error!(%error, "the kernel's events are heard no more");
                return;
            }
        }
        let is_ready = |polled: &PollFd<'_>| !polled.revents().is_empty();
        let mut ready: Vec<bool> = polled.iter().map(is_ready).collect();
        if ready.pop() == Some(true) {
            return;
        }
        let mut ready = ready.into_iter();
        ears.retain(|ear| ready.next() != Some(true) || ear.hear(&mut buffer, events));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::io::write;
    use rustix::net::socketpair;

    /// A record that `/dev/kmsg` of Linux 6.18 gave after a snapshot was restored.
    pub(in super::super) const FORK: &[u8] =
        b"5,512,1267569,-;random: crng reseeded due to virtual machine fork\n";
    /// A uevent as Linux 6.18 sends it, with the variable that 6.8 added.
    const NEW_ID: &[u8] = b"change@/devices/platform/VMGENCTR:00\0ACTION=change\0\
        DEVPATH=/devices/platform/VMGENCTR:00\0SUBSYSTEM=platform\0NEW_VMGENID=1\0DRIVER=vmgenid\0\
        MODALIAS=acpi:VMGENCTR:VM_GEN_COUNTER:\0SEQNUM=815\0";

    /// An ear for the kernel's log whose records are written into the other end.
    pub(in super::super) fn log_ear() -> (Ear, OwnedFd) {
        ear(KERNEL_LOG, log_tells)
    }

    fn ear(name: &'static str, tells: fn(&[u8]) -> bool) -> (Ear, OwnedFd) {
        let flags = SocketFlags::NONBLOCK;
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let (descriptor, kernel) = pair.unwrap();
        let ear = Ear {
            name,
            descriptor,
            tells,
        };
        (ear, kernel)
    }

    /// Waits for the listener's thread, which nothing else tells of.
    pub(in super::super) fn wait_for(mut happened: impl FnMut() -> bool) -> bool {
        (0..10_000).any(|_| {
            thread::sleep(std::time::Duration::from_millis(1));
            happened()
        })
    }

    #[test]
    fn pool_5_the_kernels_records_of_a_restored_snapshot_are_told_from_others() {
        assert!(log_tells(FORK));
        let with_facts = [FORK, b" SUBSYSTEM=acpi\n"].concat();
        assert!(log_tells(&with_facts));
        for other in [
            &b"6,339,5140900,-;NET: Registered PF_NETLINK protocol family\n"[..],
            // A process wrote that: its facility is not 0.
            b"13,513,1267570,-;random: crng reseeded due to virtual machine fork\n",
            b"5,512,1267569,-;text\n due to virtual machine fork\n",
            b"5,512,1267569,- due to virtual machine fork",
            b";due to virtual machine fork",
            b"",
        ] {
            assert!(!log_tells(other), "{}", other.escape_ascii());
        }
        assert!(uevent_tells(NEW_ID));
        for other in [
            &b"change@/devices/platform/VMGENCTR:00\0ACTION=change\0SYNTH_UUID=0\0"[..],
            b"libudev\0\xfe\xed\xca\xfe\0NEW_VMGENID=1\0",
            b"change@/devices/x\0NEW_VMGENID=10\0",
            b"NEW_VMGENID=1",
            b"",
        ] {
            assert!(!uevent_tells(other), "{}", other.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn records_of_any_bytes_are_read(record in prop::collection::vec(any::<u8>(), 0..9000)) {
            let _told = (log_tells(&record), uevent_tells(&record));
        }
    }

    #[test]
    fn pool_5_every_ear_is_heard_until_it_is_lost() {
        let events = Arc::new(AtomicU64::new(0));
        let heard = |count| wait_for(|| events.load(Ordering::SeqCst) == count);
        let ((log, log_end), (uevents, uevents_end)) = (log_ear(), ear(UEVENT, uevent_tells));
        let listener = Listener::start(vec![log, uevents], Arc::clone(&events)).unwrap();
        write(&log_end, b"6,1,1,-;something else\n").unwrap();
        write(&log_end, FORK).unwrap();
        assert!(heard(1));
        write(&uevents_end, NEW_ID).unwrap();
        assert!(heard(2));
        drop(log_end);
        // A record that is longer than any is cut, and read as far as it goes.
        write(&uevents_end, &[NEW_ID, &[b'x'; 9000]].concat()).unwrap();
        assert!(heard(3));
        drop(listener);
        assert!(
            wait_for(|| write(&uevents_end, NEW_ID) == Err(Errno::PIPE)),
            "the thread ends with its owner"
        );
    }
}
