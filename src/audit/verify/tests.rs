//! Every way in which a log can be changed, and the fault that is then found.

use super::*;
use crate::audit::tests::{TestLog, log_of_three_files as log};
use finding::FINDINGS_MAX;
use std::path::PathBuf;

/// The lines of a file, with their line feeds.
fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.split_inclusive('\n').map(str::to_owned).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Changes the lines of file `number`, and returns the faults of the whole log.
fn changed(number: usize, change: impl FnOnce(&mut Vec<String>)) -> (Vec<PathBuf>, Vec<Finding>) {
    let (place, sealed) = log();
    let files = place.files();
    let mut lines = lines(&files[number]);
    change(&mut lines);
    std::fs::write(&files[number], lines.concat()).unwrap();
    (files, place.report(Some(sealed)).findings)
}

fn is_chain(line: &str) -> bool {
    line.starts_with("{\"keymillChain\"")
}

#[test]
fn an_edited_line_is_found_wherever_it_is() {
    let (place, sealed) = log();
    for file in place.files() {
        let kept = std::fs::read(&file).unwrap();
        for at in (0..kept.len()).step_by(7) {
            let mut edited = kept.clone();
            edited[at] ^= 1;
            std::fs::write(&file, &edited).unwrap();
            let line = 1 + kept[..at].iter().filter(|byte| **byte == b'\n').count() as u64;
            let findings = place.report(Some(sealed)).findings;
            let first = findings.first().expect("found");
            assert_eq!(first.file, name(&file), "byte {at}: {first}");
            // A fault cannot be located more precisely than its group.
            assert!(
                first.line <= line && line - first.line <= 4,
                "byte {at} of line {line}: {first}"
            );
            if let Fault::Edited { last_line } = first.fault {
                assert!((first.line..=last_line).contains(&line), "{first}");
            }
        }
        std::fs::write(&file, &kept).unwrap();
    }
    place.assert_sound(Some(sealed));
}

#[test]
fn one_edit_is_one_finding() {
    // A record, the MAC of a chain line, its position in the journal.
    for (line, from) in [(3, "\"number\":"), (5, "\"mac\":\""), (5, "\"journal\":")] {
        let (files, findings) = changed(0, |lines| {
            let at = lines[line].find(from).unwrap() + from.len();
            let digit = if lines[line].as_bytes()[at] == b'7' {
                "8"
            } else {
                "7"
            };
            lines[line].replace_range(at..=at, digit);
        });
        let edited = Finding {
            file: name(&files[0]),
            line: 3,
            fault: Fault::Edited { last_line: 6 },
        };
        assert_eq!(findings, [edited], "{from}");
    }
    // A changed group number does not show whether it or the others are wrong.
    let (_, findings) = changed(0, |lines| {
        lines[5] = lines[5].replace("\"group\":2", "\"group\":7")
    });
    assert!(
        findings.len() == 2 && findings.iter().all(|finding| finding.line == 3),
        "{findings:?}"
    );
    let (_, findings) = changed(1, |lines| lines[3].insert(5, ' '));
    let text = findings[0].to_string();
    assert!(
        text.contains(".jsonl line 3: edited: lines up to 6 "),
        "{text}"
    );
}

#[test]
fn removed_added_and_swapped_lines_are_found() {
    let expected = |findings: &[Finding]| {
        assert!(
            matches!(
                findings,
                [Finding {
                    line: 3,
                    fault: Fault::Edited { .. },
                    ..
                }]
            ),
            "{findings:?}"
        );
    };
    expected(&changed(1, |lines| drop(lines.remove(3))).1);
    expected(&changed(1, |lines| lines.insert(3, lines[2].clone())).1);
    expected(&changed(1, |lines| lines.swap(2, 3)).1);
    // Across groups.
    let (_, findings) = changed(1, |lines| lines.swap(3, 7));
    assert_eq!(findings.len(), 2, "{findings:?}");
}

#[test]
fn groups_that_were_removed_repeated_or_swapped_are_found() {
    let group = |lines: &[String], number: usize| {
        let ends: Vec<usize> = (0..lines.len())
            .filter(|at| is_chain(&lines[*at]))
            .collect();
        ends[number - 1] + 1..ends[number] + 1
    };
    let (files, findings) = changed(1, |lines| drop(lines.drain(group(lines, 2))));
    let found = |line: u64, fault: Fault| Finding {
        file: name(&files[1]),
        line,
        fault,
    };
    let first = first_group(&files[1]);
    let gone = first + 2;
    assert_eq!(findings[0].fault, Fault::Edited { last_line: 10 });
    assert_eq!(
        findings[1],
        found(
            7,
            Fault::Missing {
                from: gone,
                to: gone
            }
        )
    );
    let (_, findings) = changed(1, |lines| {
        let again = lines[group(lines, 1)].to_vec();
        lines.splice(6..6, again);
    });
    assert!(
        findings.iter().any(|finding| finding.fault
            == Fault::Reordered {
                found: first + 1,
                due: first + 2
            }),
        "{findings:?}"
    );
    let (_, findings) = changed(1, |lines| {
        let second = lines[group(lines, 2)].to_vec();
        lines.drain(group(lines, 2));
        lines.splice(2..2, second);
    });
    assert!(
        findings
            .iter()
            .any(|finding| matches!(finding.fault, Fault::Reordered { .. })),
        "{findings:?}"
    );
    assert_eq!(findings[0].line, 3, "{findings:?}");
}

fn first_group(path: &Path) -> u64 {
    let name = name(path);
    let digits = name.rsplit('-').next().unwrap();
    digits.trim_end_matches(".jsonl").parse().unwrap()
}

#[test]
fn a_cut_off_end_is_found_wherever_it_is_cut() {
    let (place, sealed) = log();
    let last = place.files().pop().unwrap();
    let kept = std::fs::read(&last).unwrap();
    for length in (0..kept.len()).rev().step_by(11) {
        std::fs::write(&last, &kept[..length]).unwrap();
        let findings = place.report(Some(sealed)).findings;
        let cut = findings.last().expect("found");
        assert_eq!(cut.file, name(&last));
        assert!(
            matches!(cut.fault, Fault::CutOff { .. }),
            "{length}: {findings:?}"
        );
    }
    std::fs::remove_file(&last).unwrap();
    let findings = place.report(Some(sealed)).findings;
    let text = findings[0].to_string();
    let groups = first_group(&last) - 1;
    assert!(
        text.contains(&format!(
            "cut off: the log ends with group {groups}, the store has sealed group {}",
            sealed.group
        )),
        "{text}"
    );
    // Without the sealed head, nothing shows a cut between two groups.
    assert_eq!(place.report(None).findings, []);
    for file in place.files() {
        std::fs::remove_file(file).unwrap();
    }
    let findings = place.report(Some(sealed)).findings;
    let gone = Fault::Gone {
        sealed: sealed.group,
    };
    assert_eq!(findings[0].fault, gone);
    assert_eq!(findings[0].to_string(), gone.to_string());
    assert!(place.report(None).is_sound());
}

#[test]
fn a_file_cut_off_in_the_middle_of_the_log_is_found() {
    let (files, findings) = changed(0, |lines| lines.truncate(5));
    let next = first_group(&files[1]);
    assert_eq!(
        (findings[0].file.clone(), findings[0].line),
        (name(&files[0]), 3)
    );
    assert_eq!(findings[0].fault, Fault::Unclosed);
    assert_eq!(
        findings.last().unwrap().fault,
        Fault::Missing {
            from: 2,
            to: next - 1
        }
    );
    // At a group's end only the gap shows.
    let (files, findings) = changed(0, |lines| lines.truncate(6));
    let gap = Fault::Missing {
        from: 3,
        to: next - 1,
    };
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(
        (findings[0].file.clone(), findings[0].line),
        (name(&files[1]), 1)
    );
    assert_eq!(findings[0].fault, gap);
}

#[test]
fn a_missing_file_is_found_and_named_by_its_groups() {
    let (place, sealed) = log();
    let files = place.files();
    let kept = std::fs::read(&files[1]).unwrap();
    std::fs::remove_file(&files[1]).unwrap();
    let findings = place.report(Some(sealed)).findings;
    let (from, to) = (first_group(&files[1]), first_group(&files[2]) - 1);
    assert_eq!(findings[0].fault, Fault::Missing { from, to });
    assert_eq!(findings[0].file, name(&files[2]));
    std::fs::write(&files[1], kept).unwrap();
    std::fs::remove_file(&files[0]).unwrap();
    let findings = place.report(Some(sealed)).findings;
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].fault, Fault::Earlier { to: from - 1 });
}

#[test]
fn files_that_were_renamed_or_swapped_are_found() {
    let (place, sealed) = log();
    let files = place.files();
    let renamed = place
        .path()
        .join("audit-20200101T000000Z-000000000099.jsonl");
    std::fs::rename(&files[0], &renamed).unwrap();
    let findings = place.report(Some(sealed)).findings;
    assert!(
        findings.iter().any(|finding| finding.file == name(&renamed)
            && finding.fault == Fault::Renamed { group: 1 }),
        "{findings:?}"
    );
    std::fs::rename(&renamed, &files[0]).unwrap();
    let (one, two) = (
        std::fs::read(&files[0]).unwrap(),
        std::fs::read(&files[1]).unwrap(),
    );
    std::fs::write(&files[0], two).unwrap();
    std::fs::write(&files[1], one).unwrap();
    let findings = place.report(Some(sealed)).findings;
    assert_eq!(findings[0].file, name(&files[0]));
    assert!(
        findings
            .iter()
            .any(|finding| matches!(finding.fault, Fault::Reordered { .. })),
        "{findings:?}"
    );
}

#[test]
fn a_log_of_another_daemon_or_another_time_is_found() {
    let (place, sealed) = log();
    let (other, other_sealed) = log();
    // The whole log.
    assert_eq!(
        other.report(Some(sealed)).findings[0].fault,
        Fault::OtherLog
    );
    // One file of it.
    let files = place.files();
    std::fs::copy(&other.files()[1], &files[1]).unwrap();
    let findings = place.report(Some(sealed)).findings;
    assert_eq!(
        (findings[0].file.clone(), findings[0].line),
        (name(&files[1]), 1)
    );
    assert_eq!(findings[0].fault, Fault::OtherLog);
    // Under another key.
    let key = Secret::filled(|bytes| bytes.fill(8));
    let report = verify(other.path(), &key, Some(&other_sealed)).unwrap();
    assert!(matches!(report.findings[0].fault, Fault::Edited { .. }));
    // Forged by an attacker who has the key but not the store.
    let head = AuditHead {
        mac: [9; 32],
        ..other_sealed
    };
    let findings = other.report(Some(head)).findings;
    assert_eq!(findings[0].fault, Fault::Replaced { group: head.group });
}

#[test]
fn a_past_that_was_rewritten_with_the_key_does_not_fit_what_follows() {
    let (place, sealed) = log();
    let file = place.files().swap_remove(0);
    // The first file, written again with other records.
    let text = lines(&file)
        .concat()
        .replace("\"number\":1}", "\"number\":0}");
    let text = reclosed(&text);
    std::fs::write(&file, text).unwrap();
    let findings = place.report(Some(sealed)).findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].fault, Fault::NotContinued);
}

/// Closes every group of a file with a new chain line.
fn reclosed(text: &str) -> String {
    use crate::audit::chain::{ChainLine, Header};
    let key = crate::audit::tests::chain_key();
    let header = Header::parse(text.lines().next().unwrap().as_bytes()).unwrap();
    let mut chain = Chain {
        head: AuditHead {
            log: header.log,
            group: header.group - 1,
            mac: header.previous,
        },
        position: 0,
    };
    let (mut out, mut group, mut records) = (Vec::new(), Vec::new(), 0);
    for line in text.split_inclusive('\n') {
        if let Some(closing) = ChainLine::parse(line.as_bytes()) {
            let (position, unfinished) = (closing.position, closing.unfinished);
            chain.close(&key, &mut group, closing.records, position, unfinished);
            out.append(&mut group);
            records = 0;
        } else {
            group.extend_from_slice(line.as_bytes());
            records += 1;
        }
    }
    assert_eq!(records, 0);
    String::from_utf8(out).unwrap()
}

#[test]
fn lines_that_were_appended_are_found() {
    let forged = "{\"eventVersion\":\"1.11\",\"number\":7}\n".to_owned();
    let (files, findings) = changed(2, |lines| lines.push(forged.clone()));
    assert_eq!(findings.len(), 1);
    assert_eq!(
        (findings[0].file.clone(), &findings[0].fault),
        (name(&files[2]), &Fault::Unfinished)
    );
    let (files, findings) = changed(1, |lines| lines.push(forged.clone()));
    assert_eq!(
        (findings[0].file.clone(), &findings[0].fault),
        (name(&files[1]), &Fault::Unclosed)
    );
    // A foreign file among the log's files.
    let (place, sealed) = log();
    let path = place
        .path()
        .join("audit-20990101T000000Z-000000000999.jsonl");
    std::fs::write(&path, b"").unwrap();
    assert_eq!(
        place.report(Some(sealed)).findings[0].fault,
        Fault::NoHeader
    );
    std::fs::write(&path, forged).unwrap();
    assert_eq!(
        place.report(Some(sealed)).findings[0].fault,
        Fault::Unfinished
    );
}

#[test]
fn findings_are_bounded() {
    let (_, findings) = changed(0, |lines| {
        let chain = lines.iter().find(|line| is_chain(line)).unwrap().clone();
        lines.extend(std::iter::repeat_n(chain, 500));
    });
    assert_eq!(findings.len(), FINDINGS_MAX);
}

/// Earlier builds noted the SHA-256 of rows. A line is held to the MAC of its group, whatever its
/// members are.
#[test]
fn a_record_with_the_digest_of_an_earlier_build_is_verified() {
    let place = TestLog::new();
    let (audit, mut writer) = place.open();
    let record = format!(
        "{{\"eventVersion\":\"1.11\",\"eventTime\":\"2026-09-01T00:00:00Z\",\"eventSource\":\"keymill\",\
         \"eventName\":\"Provision\",\"requestParameters\":{{\"count\":3}},\"resources\":[],\
         \"additionalEventData\":{{\"count\":3,\"rowsSha256\":\"{}\"}}}}\n",
        "5e".repeat(32)
    );
    audit.record(record.as_bytes()).map(drop).unwrap();
    writer.turn();
    let sealed = audit.head();
    let report = place.report(Some(sealed));
    assert_eq!((report.findings, report.records), (Vec::new(), 1));
    let file = &place.files()[0];
    let text = std::fs::read_to_string(file).unwrap();
    std::fs::write(
        file,
        text.replace("\"rowsSha256\":\"5e", "\"rowsSha256\":\"5f"),
    )
    .unwrap();
    let findings = place.report(Some(sealed)).findings;
    let edited = Fault::Edited { last_line: 4 };
    assert!(
        findings.len() == 1 && findings[0].fault == edited,
        "{findings:?}"
    );
}
