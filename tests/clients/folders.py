"""Folders that others have prepared, and peers that never answer: a job is neither led astray nor held.

What hangs without the fix is given a time and then killed, so that the script fails instead of hanging.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from daemon import ALIAS, BINARY, Tally, environment, report, running, wait_until

# The bound that `keymill` states, and what a busy machine may add.
STOP_SECONDS = 20
LATER = 10
SOON = 10
STOPPED = 130
ROWS = 1000


def export(out: Path, *at: str) -> list[str]:
    return [str(part) for part in (BINARY, "export", "--key", ALIAS, "--count", ROWS, "--out", out, *at)]


def provision(table: str, out: Path, *at: str) -> list[str]:
    given = (BINARY, "provision", table, "--key", ALIAS, "--id-column", "volume", "--context", "volume", "--out", out, *at)
    return [str(part) for part in given]


@contextlib.contextmanager
def silent(family: int, address):
    """A server that takes connections and never answers."""
    with socket.socket(family) as server:
        server.bind(address)
        server.listen(16)
        yield server


def refuses(command: list[str], expected: str, **variables: str) -> None:
    """A job that ends by itself, soon, with this in its one line."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=SOON, env=environment(**variables), stdin=subprocess.DEVNULL)
    assert done.returncode not in (0, STOPPED) and expected in done.stderr, done
    assert done.stderr.count("\n") == 1, done.stderr


def ends(signals: int, command: list[str], table: int | None = None, **variables: str) -> float:
    """Starts a job that waits, signals it once it does, and returns the seconds until it has ended."""
    process = subprocess.Popen(command, stdin=table or subprocess.DEVNULL, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment(**variables))
    try:
        # The handler is in place before anything is waited for.
        status = Path(f"/proc/{process.pid}/status")
        caught = 1 << (signal.SIGTERM - 1)
        lines = lambda: dict(line.split(":", 1) for line in status.read_text().splitlines())
        wait_until(lambda: int(lines()["SigCgt"], 16) & caught, SOON, "the job's handler of SIGTERM")
        time.sleep(1)
        assert process.poll() is None, process.stderr.read()
        began = time.monotonic()
        for _ in range(signals):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
        assert process.wait(STOP_SECONDS + LATER) == STOPPED, process.stderr.read()
        return time.monotonic() - began
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def prepared(folder: Path, at: list[str]) -> None:
    """Folders with a FIFO or a link where a file of the job belongs, and tables that are not files."""
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    for name in ("_lock", "_manifest.json"):
        out = folder / f"fifo{name}"
        out.mkdir()
        os.mkfifo(out / name)
        refuses(export(out, *at), f"{out}/{name}: it is a FIFO, not a regular file")
    victim, absent = folder / "victim", folder / "absent"
    victim.write_text("precious")
    for target in (victim, absent):
        out = folder / f"link-to-{target.name}"
        out.mkdir()
        (out / "_lock").symlink_to(target)
        refuses(export(out, *at), "it is a symbolic link, not a regular file")
    assert victim.read_text() == "precious" and not absent.exists()
    wide = folder / "wide"
    wide.mkdir()
    wide.chmod(0o777)
    refuses(export(wide, *at), "every user of this machine may write the folder")
    refuses(provision(str(fifo), folder / "table", *at), "regular file")
    refuses([str(BINARY), "config", "check", "--config", str(fifo)], "it is a FIFO, not a regular file")
    refuses([str(BINARY), "policy", "validate", str(fifo)], "it is a FIFO, not a regular file")
    refuses([str(BINARY), "serve", "--config", str(fifo)], "it is a FIFO, not a regular file")


def main() -> None:
    tally = Tally()
    with running() as mill, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        at = ["--endpoint", f"unix:{mill.socket}"]
        prepared(folder, at)
        mill.client("provisioner", tally).generate_data_key_without_plaintext(KeyId=ALIAS, KeySpec="AES_256")
        mute = folder / "mute.sock"
        reading, writing = os.pipe()
        with silent(socket.AF_UNIX, str(mute)), silent(socket.AF_INET, ("127.0.0.1", 0)) as store:
            port = store.getsockname()[1]
            keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
            s3 = keys | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}"}
            waiting = [
                (export(folder / "mute", "--endpoint", f"unix:{mute}"), None, {}),
                (provision("-", folder / "input", "--input-format", "csv", *at), reading, {}),
                (provision("s3://lake/x.csv", folder / "store", *at), None, s3),
            ]
            for command, table, variables in waiting:
                seconds = ends(2, command, table, **variables)
                assert seconds < SOON, f"{command}: {seconds} s after a second signal"
            command, table, variables = waiting[0]
            seconds = ends(1, command, table, **variables)
            assert seconds < STOP_SECONDS + LATER, f"{command}: {seconds} s"
        os.close(reading)
        os.close(writing)
        assert mill.stop() == 0
    report("hostile folders", f"of {sys.platform}", tally.calls)


if __name__ == "__main__":
    main()
