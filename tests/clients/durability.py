"""A change is on the disk before it is answered: strace of the running daemon.

Between the last write to SQLite's write-ahead log and the answer of each CreateKey stands a completed fdatasync of that log.
`tests/mutants` shows that this fails for a daemon whose store has `synchronous = NORMAL`.
"""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from daemon import Tally, report, running

KEYS = 20
CALLS = "pwrite64,pwritev,write,writev,sendto,sendmsg,fdatasync,fsync"
WRITES = {"pwrite64", "pwritev", "write", "writev"}
LINE = re.compile(r"(?P<thread>\d+) +(?:<\.\.\. (?P<resumed>\w+) resumed>|(?P<call>\w+)\(\d+<(?P<path>[^>]*)>)(?P<rest>.*)")


@dataclass
class Call:
    """One system call: the lines of the trace where it began and ended, both in the order of the kernel's reports."""

    name: str
    path: str
    text: str
    began: int
    ended: int | None = None
    result: str = ""


def calls(trace: str) -> list[Call]:
    """Puts the halves of interrupted lines together."""
    found: list[Call] = []
    open_calls: dict[str, Call] = {}
    for number, line in enumerate(trace.splitlines()):
        parts = LINE.match(line)
        if not parts:
            continue
        if parts["resumed"]:
            call = open_calls.pop(parts["thread"], None)
            if call is None:
                continue
        else:
            call = Call(parts["call"], parts["path"], parts["rest"], number)
            found.append(call)
        if parts["rest"].endswith("<unfinished ...>"):
            open_calls[parts["thread"]] = call
        else:
            call.ended, call.result = number, parts["rest"].rpartition("= ")[2]
    return found


def check(trace: str) -> int:
    """Checks every answer in the trace, and returns how many there were."""
    answers, since = 0, 0
    found = calls(trace)
    for answer in found:
        if "HTTP/1.1 200" not in answer.text:
            continue
        answers += 1
        before = [call for call in found if since <= call.began < answer.began and call.path.endswith("-wal")]
        writes = [call for call in before if call.name in WRITES]
        assert writes, f"answer {answers}: no write of the store before it"
        last = max(call.ended if call.ended is not None else answer.began for call in writes)
        synced = [
            call for call in before
            if call.name in ("fdatasync", "fsync") and call.result == "0" and last < call.began and (call.ended or answer.began) < answer.began
        ]
        assert synced, f"answer {answers} of {answer.path}: not durable before it was given"
        since = answer.began
    return answers


def main() -> None:
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace"
        wrapper = (shutil.which("strace") or "strace", "-f", "-y", "-s", "64", "-e", f"trace={CALLS}", "-o", str(trace))
        with running(wrapper=wrapper) as mill:
            admin = mill.client("admin", tally)
            begun = trace.stat().st_size
            for number in range(KEYS):
                admin.create_key(Description=f"key {number}")
            mill.stop()
        # The trace's beginning is that of the daemon: the store that it made.
        text = trace.read_bytes()[begun:].decode(errors="replace")
    answers = check(text)
    assert answers == KEYS, f"{answers} answers in the trace of {KEYS} calls"
    print(f"{answers} keys: each on the disk before it was answered")
    version = subprocess.run(["strace", "--version"], capture_output=True, text=True, check=True).stdout.split()[3]
    report("strace around CreateKey", version, tally.calls)


if __name__ == "__main__":
    main()
