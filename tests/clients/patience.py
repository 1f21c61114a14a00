"""Jobs that wait: a low limit slows them, a daemon that is restarted under them is waited for, a signal ends the wait, and a daemon that was never there is told at once."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
from daemon import ALIAS, BINARY, Daemon, environment, report, running, wait_until
from provision import fails
from throttle import limit

ROWS = 3_000
KEYS_PER_SECOND = 200
MANY = 2_000_000
# For a job that is interrupted: within how many seconds it has a part, after how many without its
# daemon each of its pauses is a long one, and within how many it ends.
SOME = 600_000
PART_SECONDS, LONG_PAUSES_SECONDS, ENDED_SECONDS_MAX = 60, 5, 1.5


def table(folder: Path, rows: int) -> Path:
    """A CSV of containers."""
    path = folder / f"{rows}.csv"
    path.write_text("volume,tenant\n" + "".join(f"v{number},t\n" for number in range(rows)))
    return path


def job(verb: str, mill: Daemon, out: Path, *more) -> list:
    """A command through the daemon."""
    return [BINARY, verb, "--key", ALIAS, "--out", out, "--endpoint", f"unix:{mill.socket}", "--json", *more]


def provision(mill: Daemon, out: Path, path: Path, *more) -> list:
    return [*job("provision", mill, out, *more), path, "--id-column", "volume", "--context", "tenant,volume"]


def start(command: list) -> subprocess.Popen:
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([str(part) for part in command], env=environment(), **given)


def finished(process: subprocess.Popen, rows: int) -> str:
    """What a job logged that has finished with so many rows."""
    said, log = process.communicate(timeout=600)
    assert process.returncode == 0, log
    assert json.loads(said)["rows"] == rows, said
    return log


def rows_of(out: Path) -> int:
    return sum(pyarrow.parquet.read_metadata(part).num_rows for part in out.glob("*.parquet"))


def slow(mill: Daemon, folder: Path) -> None:
    """At a low limit each row is an answer's batch of its own, and the job ends all the same."""
    limit(mill, KEYS_PER_SECOND)
    finished(start(provision(mill, folder / "slow", table(folder, ROWS))), ROWS)
    assert rows_of(folder / "slow") == ROWS
    limit(mill, 100_000_000)


def restarted(mill: Daemon, folder: Path, kill) -> None:
    """The daemon goes away in the middle and comes back: the job finishes, with every row once."""
    for verb in ("provision", "export"):
        out = folder / f"{verb}-{kill.__name__}"
        if verb == "provision":
            command = provision(mill, out, table(folder, MANY), "--rows-per-part", "100000")
        else:
            command = job(verb, mill, out, "--count", str(2 * MANY), "--rows-per-part", "200000")
        process = start(command)
        while len(list(out.glob("part-*.parquet"))) < 2:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        kill()
        time.sleep(0.5)
        assert process.poll() is None, process.stderr.read()
        mill.start()
        rows = MANY if verb == "provision" else 2 * MANY
        log = finished(process, rows)
        assert "the connection broke; trying again" in log, log
        assert rows_of(out) == rows


def interrupted(mill: Daemon, folder: Path) -> None:
    """SIGINT ends a job at once whose daemon is away, and the same command goes on when it is back."""
    out = folder / "interrupted"
    command = provision(mill, out, table(folder, SOME), "--rows-per-part", "100000")
    told = [part for part in command if part != "--json"]
    process = start(told)
    wait_until(lambda: list(out.glob("part-*.parquet")), PART_SECONDS, "a part")
    mill.kill()
    # By then a pause takes seconds.
    time.sleep(LONG_PAUSES_SECONDS)
    assert process.poll() is None, process.stderr.read()
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    said, log = process.communicate(timeout=60)
    took = time.monotonic() - began
    assert process.returncode == 130 and took < ENDED_SECONDS_MAX, (process.returncode, took, log)
    assert "the connection broke; trying again" in log, log
    written = rows_of(out)
    assert 0 < written < SOME and said.startswith(f"stopped: {written} rows, "), said
    assert said.endswith(f"; {SOME - written} rows to go, the same command goes on\n"), said
    mill.start()
    finished(start(command), SOME)
    assert rows_of(out) == SOME


def absent(mill: Daemon, folder: Path) -> None:
    """Before the table is looked through."""
    command = provision(mill, folder / "absent", table(folder, ROWS))
    command[command.index("--endpoint") + 1] = f"unix:{folder}/absent.sock"
    fails(69, "No such file or directory", command)


def main() -> None:
    with running() as mill:
        folder = mill.state.parent
        slow(mill, folder)
        restarted(mill, folder, mill.stop)
        restarted(mill, folder, mill.kill)
        interrupted(mill, folder)
        absent(mill, folder)
        report("pyarrow on jobs that waited", pyarrow.__version__, 6)


if __name__ == "__main__":
    main()
