"""Kill -9 of an export, of the daemon that it streams from, and of one on the store: what was finished is whole. What else is killed is in kills.py.

    python3 tests/clients/crash.py [ROUNDS]
"""

import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.compute
import pyarrow.dataset
import pyarrow.parquet
from daemon import ALIAS, BINARY, Daemon, Tally, environment, report, running

ROUNDS = 4
EXPORT_ROWS = 2_000_000
PART_ROWS = 128 * 1024
EXPORTS = Tally()


def whole_parts(out: Path) -> int:
    """Checks every part that stands, and returns how many there are."""
    parts = sorted(out.glob("part-*.parquet"))
    manifest = out / "_manifest.json"
    named = {part["file"]: part for part in json.loads(manifest.read_text())["parts"]} if manifest.exists() else {}
    assert set(named) <= {part.name for part in parts}, "the manifest names a part that does not stand"
    for part in parts:
        stored = pyarrow.parquet.ParquetFile(part)
        first = int(part.stem.split("-")[1]) * PART_ROWS
        assert stored.metadata.num_rows == min(PART_ROWS, EXPORT_ROWS - first), part
        assert stored.read(["ciphertext_blob"]).num_rows == stored.metadata.num_rows
        if part.name in named:
            assert hashlib.sha256(part.read_bytes()).hexdigest() == named[part.name]["sha256"], part
    return len(parts)


def export(source: list[str], out: Path) -> subprocess.Popen:
    EXPORTS.count()
    command = [BINARY, "export", "--key", ALIAS, "--count", str(EXPORT_ROWS), "--rows-per-part", str(PART_ROWS), "--out", out]
    return subprocess.Popen([*command, *source], env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(source: list[str], out: Path) -> None:
    """Lets an export end, and checks the whole of it."""
    run = export(source, out)
    said = run.communicate(timeout=300)[0].decode()
    assert run.returncode == 0, said
    whole_parts(out)
    table = pyarrow.dataset.dataset(out, format="parquet").to_table(["container_id", "ciphertext_blob"])
    expected = pyarrow.array([f"container-{number:012}" for number in range(EXPORT_ROWS)])
    assert table["container_id"].sort().combine_chunks().equals(expected), "not every container exactly once"
    assert pyarrow.compute.count_distinct(table["ciphertext_blob"]).as_py() == EXPORT_ROWS, "a blob came twice"


def kill_during_export(source: list[str], out: Path, rounds: int, victim: Daemon | None = None) -> None:
    """Kills the export, or the daemon that it streams from, in mid-run `rounds` times, then lets it end."""
    kills = 0
    while kills < rounds:
        before = whole_parts(out) if out.exists() else 0
        run = export(source, out)
        deadline = time.monotonic() + random.uniform(0.05, 0.6)
        while run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        if run.poll() is not None:
            assert run.returncode == 0, run.stdout.read()
            finish(source, out)
            shutil.rmtree(out)
            continue
        (victim or run).kill()
        if victim is not None:
            # The export waits for a daemon that it had reached, and goes on; one that had not yet
            # reached it has begun nothing.
            time.sleep(random.uniform(0, 0.3))
            victim.start()
        said = run.communicate(timeout=120)[0].decode()
        if victim is not None:
            assert run.returncode == 0 or "resumes" in said, f"an export whose daemon was killed said: {said}"
        kills += 1
        assert not out.exists() or whole_parts(out) >= before, "a finished part is gone"
    finish(source, out)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with running() as mill, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        through = ["--endpoint", f"unix:{mill.socket}"]
        kill_during_export(through, folder / "export-killed", rounds)
        kill_during_export(through, folder / "daemon-killed", rounds, mill)
        assert mill.stop() == 0
        kill_during_export(["--dir", str(mill.state)], folder / "store-killed", rounds)
        print(f"{rounds} kills of an export, of its daemon, and of one on the store: every part whole, every container exactly once")
    report("exports around kill -9", f"of {rounds} rounds", EXPORTS.calls)


if __name__ == "__main__":
    main()
