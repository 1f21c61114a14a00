//! Verifies the log of one of several nodes. Which node's it is, is asked of the log: its id is in
//! the head that the store has sealed for the node, and since format 3 of the store the headers of
//! its files have the node's name.

use crate::audit::chain::Header;
use crate::audit::reader::{Groups, LogFile, Next};
use crate::audit::verify::{Fault, Report, verify};
use crate::crypto::secret::Secret;
use crate::keystore::AuditHead;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// The log of a node.
#[derive(Debug)]
pub struct NodeReport {
    /// The node; empty for the log of one machine, `None` where that is not known.
    pub node: Option<String>,
    /// What was found.
    pub report: Report,
}

/// Verifies the log in `folder`, which is that of one of the nodes whose heads the store has
/// `sealed`, by their names.
///
/// # Errors
/// The error of the operating system about the files; faults of their content are in the report.
pub fn verify_node(
    folder: &Path,
    key: &Secret<32>,
    sealed: &BTreeMap<String, AuditHead>,
) -> io::Result<NodeReport> {
    let header = newest_header(folder)?;
    let owner = header.as_deref().and_then(|header| owner(header, sealed));
    let mut report = verify(folder, key, owner.map(|(_, head)| head))?;
    let fault = match (&header, owner) {
        (None, _) if report.files == 0 => Some(Fault::NoLog),
        (Some(_), None) => Some(Fault::Unsealed),
        // The walk has said what is wrong with the header.
        (None, _) | (Some(_), Some(_)) => None,
    };
    if let Some(fault) = fault {
        report.find("", 0, fault);
    }
    let node = owner.map(|(node, _)| node.to_owned());
    Ok(NodeReport {
        node: node.or_else(|| header?.node),
        report,
    })
}

/// The node with a sealed head of this log: of two, the one that has gone on with it under another
/// name. Else the node that the header names, whose log was another one when it was sealed.
fn owner<'a>(
    header: &Header,
    sealed: &'a BTreeMap<String, AuditHead>,
) -> Option<(&'a str, &'a AuditHead)> {
    let of_log = sealed.iter().filter(|(_, head)| head.log == header.log);
    let of_log = of_log.max_by_key(|(_, head)| head.group);
    let named = || sealed.get_key_value(header.node.as_ref()?);
    let owner = of_log.or_else(named)?;
    Some((owner.0, owner.1))
}

/// The header of the newest file that has one.
fn newest_header(folder: &Path) -> io::Result<Option<Box<Header>>> {
    for file in LogFile::all(folder)?.iter().rev() {
        if let Next::Group(group) = Groups::open(&file.path)?.next()?
            && group.header.is_some()
        {
            return Ok(group.header);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tests::{TestLog, chain_key, record};

    /// A log with three records, of a node whose files name it, and its head.
    fn written(node: Option<&str>) -> (TestLog, AuditHead) {
        let mut place = TestLog::new();
        place.node = node.map(str::to_owned);
        let (audit, mut writer) = place.open();
        for number in 0..3 {
            record(&audit, number).unwrap();
            writer.turn();
        }
        let head = audit.head();
        (place, head)
    }

    fn found(place: &TestLog, sealed: &[(&str, AuditHead)]) -> (Option<String>, Vec<Fault>) {
        let sealed = sealed
            .iter()
            .map(|(node, head)| ((*node).to_owned(), *head));
        let found = verify_node(place.path(), &chain_key(), &sealed.collect()).unwrap();
        let faults = found.report.findings.into_iter().map(|one| one.fault);
        (found.node, faults.collect())
    }

    #[test]
    fn audit_1_each_log_is_held_to_the_head_of_its_node() {
        let (a, b) = ("a".repeat(32), "b".repeat(32));
        let (first, first_head) = written(Some(&a));
        // Of a store before format 3.
        let (second, second_head) = written(None);
        let sealed = [(&*a, first_head), (&*b, second_head)];
        assert_eq!(found(&first, &sealed), (Some(a.clone()), Vec::new()));
        assert_eq!(found(&second, &sealed), (Some(b.clone()), Vec::new()));
        let file = &first.files()[0];
        let text = std::fs::read_to_string(file).unwrap();
        assert!(
            text.starts_with("{\"keymillLog\":") && text.contains(&a),
            "{text}"
        );
        // A node that has gone on with its log under another name.
        let earlier = AuditHead {
            group: 2,
            mac: [9; 32],
            ..first_head
        };
        let (named, faults) = found(&first, &[(&*b, earlier), (&*a, first_head)]);
        assert_eq!((named, faults), (Some(a.clone()), Vec::new()));

        // A log that ends too early, another one in its place, and one of no node of the store.
        let further = AuditHead {
            group: first_head.group + 1,
            ..first_head
        };
        let (named, faults) = found(&first, &[(&*a, further), (&*b, second_head)]);
        assert_eq!(named.as_ref(), Some(&a));
        assert!(matches!(faults[..], [Fault::CutOff { .. }]), "{faults:?}");
        let other = AuditHead {
            log: [7; 16],
            ..first_head
        };
        let (named, faults) = found(&first, &[(&*a, other)]);
        assert_eq!(named.as_ref(), Some(&a));
        assert!(matches!(faults[..], [Fault::OtherLog]), "{faults:?}");
        let (named, faults) = found(&first, &[(&*b, second_head)]);
        assert_eq!((named.as_ref(), faults), (Some(&a), vec![Fault::Unsealed]));
        assert_eq!(found(&second, &[]), (None, vec![Fault::Unsealed]));
        let empty = TestLog::new();
        std::fs::create_dir(empty.path()).unwrap();
        assert_eq!(found(&empty, &sealed), (None, vec![Fault::NoLog]));

        // The name is under the chain's MAC.
        std::fs::write(file, text.replace(&a, &b)).unwrap();
        let (_, faults) = found(&first, &sealed);
        assert!(matches!(faults[..], [Fault::Edited { .. }]), "{faults:?}");
    }
}
