//! A thread that reads the kernel's announcements of a restored snapshot.
//!
//! Where the hypervisor offers a VM Generation ID, the kernel's `vmgenid` driver reseeds the random
//! generator when the id changes, and the kernel's log has a line about it (since Linux 5.18):
//! `random: crng reseeded due to virtual machine fork`. Linux 6.8 also sent a uevent,
//! `NEW_VMGENID=1`. Later releases removed it, and some vendors' kernels have it. Both are read
//! where that is possible. Only the log counts as a source that sees restored snapshots.
//!
//! The records are public formats: `Documentation/ABI/testing/dev-kmsg` and `lib/kobject_uevent.c`
//! of Linux. This module counts the events; it does not decide what follows from one.

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
/// The kernel's own multicast group; udev repeats the events on another group.
const KERNEL_GROUP: u32 = 1;
/// Records of the log with a lower number are from the kernel; a process cannot write such records.
const KERNEL_PRIORITIES: u32 = 8;

/// A descriptor that delivers records, and the test for records that announce a restored snapshot.
pub(super) struct RecordSource {
    pub(super) name: &'static str,
    descriptor: OwnedFd,
    is_announcement: fn(&[u8]) -> bool,
}

/// The name of the kernel's log as a source.
pub(super) const KERNEL_LOG: &str = "kernel-log";
/// The name of the kernel's uevents as a source.
pub(super) const UEVENT: &str = "uevent";

impl RecordSource {
    /// All record sources that this machine offers to this process; none without a VM Generation
    /// ID.
    pub(super) fn all() -> Vec<Self> {
        if !DRIVERS.iter().any(|driver| has_device(driver)) {
            return Vec::new();
        }
        let heard = |name, opened: rustix::io::Result<OwnedFd>, is_announcement| match opened {
            Ok(descriptor) => Some(Self {
                name,
                descriptor,
                is_announcement,
            }),
            Err(error) => {
                tracing::debug!(name, %error, "a source of the clone word cannot be opened");
                None
            }
        };
        let log = heard(KERNEL_LOG, open_log(), is_announcement_in_log);
        log.into_iter()
            .chain(heard(UEVENT, open_uevents(), is_announcement_in_uevent))
            .collect()
    }

    /// Reads one record. Returns whether there may be more.
    fn read_record(&self, buffer: &mut [u8], events: &AtomicU64) -> bool {
        let (event, more) = match read(&self.descriptor, &mut *buffer) {
            Ok(0) => (false, false),
            Ok(length) => ((self.is_announcement)(&buffer[..length]), true),
            Err(Errno::INTR | Errno::AGAIN) => (false, true),
            // Records were lost before they were read. One of them may have been an announcement.
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
                "the kernel announced a restored snapshot: keys made before it are dropped"
            );
        }
        more
    }
}

/// Whether a driver has a device: its folder then has a link besides the one to its module.
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

/// Opens the kernel's log at its end.
fn open_log() -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let log = open("/dev/kmsg", flags, Mode::empty())?;
    seek(&log, SeekFrom::End(0))?;
    Ok(log)
}

/// Opens a socket for the uevents from now on.
fn open_uevents() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (family, kind) = (AddressFamily::NETLINK, SocketType::DGRAM);
    let socket = socket_with(family, kind, flags, Some(KOBJECT_UEVENT))?;
    bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP))?;
    Ok(socket)
}

/// Whether a record of the log announces a restored snapshot. Its form is `5,1234,1267569,-;random:
/// crng reseeded due to virtual machine fork\n`: facility and level, number, microseconds, flags;
/// the text; indented lines of further facts.
fn is_announcement_in_log(record: &[u8]) -> bool {
    let mut parts = record.splitn(2, |byte| *byte == b';');
    let (Some(head), Some(rest)) = (parts.next(), parts.next()) else {
        return false;
    };
    let digits = head.split(|byte| *byte == b',').next();
    let priority = digits.and_then(|digits| str::from_utf8(digits).ok()?.parse::<u32>().ok());
    let text = rest.split(|byte| *byte == b'\n').next();
    priority.is_some_and(|priority| priority < KERNEL_PRIORITIES)
        && text.is_some_and(|text| text.ends_with(b"due to virtual machine fork"))
}

/// Whether a uevent announces a restored snapshot. Its form is
/// `change@/devices/platform/VMGENCTR:00\0ACTION=change\0…\0NEW_VMGENID=1\0…\0`. The sender is not
/// checked: sending takes CAP_NET_ADMIN, and a false event only drops pooled keys.
fn is_announcement_in_uevent(record: &[u8]) -> bool {
    let mut fields = record.split(|byte| *byte == 0);
    fields.next().is_some_and(|head| head.contains(&b'@'))
        && fields.any(|field| field == b"NEW_VMGENID=1")
}

/// A thread that reads the records; it ends when this value is dropped.
pub(super) struct Listener {
    _stop: UnixStream,
}

impl Listener {
    /// Starts a thread that counts in `events` the announcements from now on.
    ///
    /// # Errors
    /// When the operating system refuses a thread or a descriptor.
    pub(super) fn start(sources: Vec<RecordSource>, events: Arc<AtomicU64>) -> io::Result<Self> {
        let (stop, stopped) = UnixStream::pair()?;
        thread::Builder::new()
            .name("clone-word".to_owned())
            .spawn(move || listen(sources, &stopped, &events))?;
        Ok(Self { _stop: stop })
    }
}

fn listen(mut sources: Vec<RecordSource>, stopped: &UnixStream, events: &AtomicU64) {
    let mut buffer = [0; RECORD_BYTES_MAX];
    while !sources.is_empty() {
        let descriptors = sources.iter().map(|source| &source.descriptor);
        let mut polled: Vec<_> = descriptors
            .map(|descriptor| PollFd::new(descriptor, PollFlags::IN))
            .chain([PollFd::new(stopped, PollFlags::IN)])
            .collect();
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                tracing::error!(%error, "the kernel's events are not read any more");
                return;
            }
        }
        let is_ready = |polled: &PollFd<'_>| !polled.revents().is_empty();
        let mut ready: Vec<bool> = polled.iter().map(is_ready).collect();
        if ready.pop() == Some(true) {
            return;
        }
        let mut ready = ready.into_iter();
        sources
            .retain(|source| ready.next() != Some(true) || source.read_record(&mut buffer, events));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::io::write;
    use rustix::net::socketpair;

    /// A record of `/dev/kmsg` on Linux 6.18 after a snapshot was restored.
    pub(in super::super) const FORK: &[u8] =
        b"5,512,1267569,-;random: crng reseeded due to virtual machine fork\n";
    /// A uevent as Linux 6.18 sends it, with the variable that Linux 6.8 added.
    const NEW_ID: &[u8] = b"change@/devices/platform/VMGENCTR:00\0ACTION=change\0\
        DEVPATH=/devices/platform/VMGENCTR:00\0SUBSYSTEM=platform\0NEW_VMGENID=1\0DRIVER=vmgenid\0\
        MODALIAS=acpi:VMGENCTR:VM_GEN_COUNTER:\0SEQNUM=815\0";

    /// A record source of the kernel-log kind; records are written into the other end.
    pub(in super::super) fn log_source() -> (RecordSource, OwnedFd) {
        source(KERNEL_LOG, is_announcement_in_log)
    }

    fn source(name: &'static str, is_announcement: fn(&[u8]) -> bool) -> (RecordSource, OwnedFd) {
        let flags = SocketFlags::NONBLOCK;
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let (descriptor, kernel) = pair.unwrap();
        let source = RecordSource {
            name,
            descriptor,
            is_announcement,
        };
        (source, kernel)
    }

    /// Waits for the listener's thread, which can be observed in no other way.
    pub(in super::super) fn wait_for(mut happened: impl FnMut() -> bool) -> bool {
        (0..10_000).any(|_| {
            thread::sleep(std::time::Duration::from_millis(1));
            happened()
        })
    }

    #[test]
    fn pool_5_the_kernels_records_of_a_restored_snapshot_are_told_from_others() {
        assert!(is_announcement_in_log(FORK));
        let with_facts = [FORK, b" SUBSYSTEM=acpi\n"].concat();
        assert!(is_announcement_in_log(&with_facts));
        for other in [
            &b"6,339,5140900,-;NET: Registered PF_NETLINK protocol family\n"[..],
            // A process wrote this record: its facility is not 0.
            b"13,513,1267570,-;random: crng reseeded due to virtual machine fork\n",
            b"5,512,1267569,-;text\n due to virtual machine fork\n",
            b"5,512,1267569,- due to virtual machine fork",
            b";due to virtual machine fork",
            b"",
        ] {
            assert!(!is_announcement_in_log(other), "{}", other.escape_ascii());
        }
        assert!(is_announcement_in_uevent(NEW_ID));
        for other in [
            &b"change@/devices/platform/VMGENCTR:00\0ACTION=change\0SYNTH_UUID=0\0"[..],
            b"libudev\0\xfe\xed\xca\xfe\0NEW_VMGENID=1\0",
            b"change@/devices/x\0NEW_VMGENID=10\0",
            b"NEW_VMGENID=1",
            b"",
        ] {
            assert!(
                !is_announcement_in_uevent(other),
                "{}",
                other.escape_ascii()
            );
        }
    }

    proptest! {
        #[test]
        fn records_of_any_bytes_are_read(record in prop::collection::vec(any::<u8>(), 0..9000)) {
            let _told = (is_announcement_in_log(&record), is_announcement_in_uevent(&record));
        }
    }

    #[test]
    fn pool_5_every_source_is_read_until_it_is_lost() {
        let events = Arc::new(AtomicU64::new(0));
        let heard = |count| wait_for(|| events.load(Ordering::SeqCst) == count);
        let ((log, log_end), (uevents, uevents_end)) =
            (log_source(), source(UEVENT, is_announcement_in_uevent));
        let listener = Listener::start(vec![log, uevents], Arc::clone(&events)).unwrap();
        write(&log_end, b"6,1,1,-;something else\n").unwrap();
        write(&log_end, FORK).unwrap();
        assert!(heard(1));
        write(&uevents_end, NEW_ID).unwrap();
        assert!(heard(2));
        drop(log_end);
        // A record that is longer than the buffer is cut, and its beginning is read.
        write(&uevents_end, &[NEW_ID, &[b'x'; 9000]].concat()).unwrap();
        assert!(heard(3));
        drop(listener);
        assert!(
            wait_for(|| write(&uevents_end, NEW_ID) == Err(Errno::PIPE)),
            "the thread ends with its owner"
        );
    }
}
