"""Ten million rows in one command, on the store and through the daemon: how long, how much memory, and that all readers agree.

    python3 tests/clients/large_export.py [ROWS]
"""

import os
import re
import resource
import sys
import tempfile
import time
from pathlib import Path

from container_list import check_manifest, check_readers, check_schema, export
from daemon import Daemon, report, running

ROWS = 10_000_000
RSS_MIB_MAX = 512


def peak_mib(process: int) -> float:
    """The most memory that a running process has had."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def measured(source: list[str], out: Path, rows: int) -> float:
    """Runs the export, prints its figures, and returns its peak memory in MiB; in a child of its own, as children's peaks are kept as one."""
    began = time.monotonic()
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        done = export(source, out, rows)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        os.write(writer, f"{peak:.1f} {done.stderr if done.returncode else ''}".encode()[:4096])
        os._exit(done.returncode)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seconds = time.monotonic() - began
    peak, _, error = os.read(reader, 4096).decode().partition(" ")
    assert status == 0, f"export: {error}"
    size = sum(part.stat().st_size for part in out.glob("*.parquet"))
    print(f"{source[0]}: {rows} rows in {seconds:.1f} s, {rows / seconds:,.0f} rows/s, {size / 2**20:.0f} MiB of Parquet, peak {float(peak):.0f} MiB")
    return float(peak)


def run(mill: Daemon, rows: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        through, beside = Path(temporary) / "through", Path(temporary) / "beside"
        peak = measured(["--endpoint", f"unix:{mill.socket}"], through, rows)
        daemon_peak = peak_mib(mill.process.pid)
        print(f"the daemon's peak: {daemon_peak:.0f} MiB")
        assert mill.stop() == 0
        local_peak = measured(["--dir", str(mill.state)], beside, rows)
        assert max(peak, daemon_peak, local_peak) < RSS_MIB_MAX, "more memory than was promised"
        for out in (through, beside):
            check_schema(out)
            check_manifest(out, rows)
            check_readers(out, rows)


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    with running() as mill:
        run(mill, rows)
    report("keymill export of a large list", f"{rows} rows", 2)


if __name__ == "__main__":
    main()
