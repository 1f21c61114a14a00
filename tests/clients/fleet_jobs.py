"""Jobs through three daemons on one PostgreSQL, of which one is killed half-way: each job finishes, with every container once, and the daemon that comes back is used again.

Then through every address of one name; with all of the daemons away; and with none that was ever there.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow
import pyarrow.compute
import pyarrow.parquet
from daemon import ALIAS, BINARY, Daemon, environment, report, wait_until
from postgres import free_port, server
from provision import containers, fails, read

# At the rate of a node, a job takes long enough for a node to be killed and to come back.
ROWS = 80_000
ROWS_PER_PART = 2_000
KEYS_PER_SECOND = 3_000
WORKERS = 6
# How much of a job is done when the node is killed.
KILLED_AT = ROWS // 4
JOB_SECONDS = 300
DATABASE = "fleet"
NAME = "fleet.test"
AWAY, BACK = "a daemon is away; the others are called", "a daemon is back"


class Fleet:
    """Three nodes, each on a loopback address of its own, at one port."""

    def __init__(self, folder: Path, url: str):
        self.folder = folder
        self.port = port_of_all()
        self.nodes = []
        for number in (1, 2, 3):
            (folder / f"node-{number}").mkdir()
            overrides = {"KEYMILL_RATES__PRINCIPAL_KEYS_PER_SECOND": str(KEYS_PER_SECOND)}
            arguments = ("--store", url, "--root-key", str(folder / "root.key"), "--admin-listen", "127.0.0.1:0")
            self.nodes.append(Daemon(folder / f"node-{number}", overrides, arguments=arguments, listen=f"127.0.0.{number}:{self.port}"))

    def start(self) -> None:
        for node in self.nodes:
            node.start()

    def endpoints(self, role: str) -> list[str]:
        sockets = [node.socket if role == "provisioner" else node.facts["sockets"][role] for node in self.nodes]
        return [part for path in sockets for part in ("--endpoint", f"unix:{path}")]

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()


def port_of_all() -> int:
    """A port that is free on the three addresses."""
    while True:
        port = free_port()
        try:
            for number in (2, 3):
                socket.create_server((f"127.0.0.{number}", port)).close()
            return port
        except OSError:
            continue


def calls_of(node: Daemon, operation: str) -> float:
    return node.metric("keymill_requests_total", operation=operation, code="OK")


class Job:
    """A command under way, and what it logs."""

    def __init__(self, command: list, folder: Path, wrapper: tuple = (), **variables: str):
        self.log = folder / f"job-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            given = [str(part) for part in (*wrapper, *command, "--json")]
            self.process = subprocess.Popen(given, env=environment(**variables), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)

    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{") and line.endswith("}")]

    def told(self, message: str) -> list[dict]:
        return [line for line in self.lines() if line["message"] == message]

    def finished(self) -> dict:
        said, _ = self.process.communicate(timeout=JOB_SECONDS)
        assert self.process.returncode == 0, self.log.read_text()
        return json.loads(said)


def half_way(fleet: Fleet, job: Job, is_under_way, operation: str) -> None:
    """Kills a node under the job, and starts it again; the job goes on with the others, and then with all three."""
    first, victim, last = fleet.nodes
    wait_until(lambda: job.process.poll() is not None or is_under_way(), JOB_SECONDS, f"a quarter of {operation}")
    assert job.process.poll() is None, job.log.read_text()
    assert all(calls_of(node, operation) > 0 for node in fleet.nodes), "a node that has no connection of the job"
    victim.kill()
    calls = lambda: calls_of(first, operation) + calls_of(last, operation)  # noqa: E731
    before = calls()
    wait_until(lambda: calls() > before, JOB_SECONDS, f"{operation} goes on without the node")
    assert job.process.poll() is None, "the job ended before the node was back"
    victim.start()
    job.said = job.finished()
    again = calls_of(victim, operation)
    assert again > 0, "the node that came back was left alone"
    assert len(job.told(AWAY)) >= 1 and len(job.told(BACK)) == 1, job.log.read_text()
    assert all(str(victim.state) in line["error"] for line in job.told(AWAY)), job.told(AWAY)
    print(f"{operation}: {ROWS} rows; {again:.0f} calls went to the node that was killed and came back")


def rows_of(out: Path) -> int:
    return sum(pyarrow.parquet.read_metadata(part).num_rows for part in out.glob("part-*.parquet"))


def of_one_job(out: Path, ids: list[str]) -> pyarrow.Table:
    """Every container once, each with a key of its own."""
    table = read(out)
    assert table["volume"].to_pylist() == ids
    assert pyarrow.compute.count_distinct(table["ciphertext_blob"]).as_py() == len(ids), "a blob came twice"
    return table


def one_is_killed(fleet: Fleet, folder: Path) -> None:
    """`provision`, `rewrap`, `verify`."""
    sent = containers(ROWS).select(["volume", "tenant"])
    pyarrow.parquet.write_table(sent, folder / "volumes.parquet", row_group_size=ROWS_PER_PART)
    ids = sent["volume"].to_pylist()
    parts = ["--rows-per-part", ROWS_PER_PART, "--workers", WORKERS]
    named = ["--id-column", "volume"]

    first, second = folder / "provisioned", folder / "rewrapped"
    provision = [BINARY, "provision", folder / "volumes.parquet", "--key", ALIAS, *named, "--context", "tenant,volume", "--out", first, *parts]
    half_way(fleet, Job([*provision, *fleet.endpoints("provisioner")], folder), lambda: rows_of(first) >= KILLED_AT, "Bind")
    before = of_one_job(first, ids)

    rewrap = [BINARY, "rewrap", first, "--key", ALIAS, "--out", second, *parts]
    half_way(fleet, Job([*rewrap, *fleet.endpoints("rewrapper")], folder), lambda: rows_of(second) >= KILLED_AT, "Rewrap")
    after = of_one_job(second, ids)
    both = pyarrow.chunked_array(before["ciphertext_blob"].chunks + after["ciphertext_blob"].chunks)
    assert pyarrow.compute.count_distinct(both).as_py() == 2 * ROWS, "a blob was taken over"

    verify = [BINARY, "verify", second, *named, "--workers", WORKERS]
    job = Job([*verify, *fleet.endpoints("consumer")], folder)

    # Its lines come too rarely for that; a call has the rows of a part at most.
    calls = KILLED_AT / ROWS_PER_PART
    half_way(fleet, job, lambda: sum(calls_of(node, "VerifyBlobs") for node in fleet.nodes) >= calls, "VerifyBlobs")
    assert job.said["rows"] == ROWS and job.said["finding_count"] == 0, job.said


def every_address(fleet: Fleet, folder: Path) -> None:
    """One name, three addresses, signed calls: each node has its share, also without one of them."""
    hosts = folder / "hosts"
    hosts.write_text("127.0.0.1 localhost\n" + "".join(f"127.0.0.{number} {NAME}\n" for number in (1, 2, 3)))
    wrapper = ("unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts)
    if os.geteuid() != 0:
        print("without root no name has three addresses: left out")
        return
    variables = fleet.nodes[0].credentials("provisioner")
    for killed, out in ((None, folder / "by-name"), (fleet.nodes[2], folder / "by-name-of-two")):
        if killed:
            killed.kill()
        living = [node for node in fleet.nodes if node is not killed]
        before = [node.metric("keymill_data_keys_total") for node in living]
        export = [BINARY, "export", "--key", ALIAS, "--count", 30_000, "--rows-per-part", 2_500, "--workers", WORKERS, "--endpoint", f"http://{NAME}:{fleet.port}", "--out", out]
        job = Job(export, folder, wrapper, **variables)
        assert job.finished()["rows"] == 30_000
        table = read(out)
        assert pyarrow.compute.count_distinct(table["container_id"]).as_py() == 30_000
        shares = [node.metric("keymill_data_keys_total") - was for node, was in zip(living, before)]
        assert all(share >= 2_500 for share in shares), shares
    fleet.nodes[2].start()


def all_are_away(fleet: Fleet, folder: Path) -> None:
    """The job waits for any of them, SIGINT ends the wait, and the same command goes on."""
    out = folder / "waited"
    sent = containers(ROWS // 2).select(["volume", "tenant"])
    pyarrow.parquet.write_table(sent, folder / "half.parquet", row_group_size=ROWS_PER_PART)
    command = [BINARY, "provision", folder / "half.parquet", "--key", ALIAS, "--id-column", "volume", "--context", "volume", "--out", out, "--rows-per-part", str(ROWS_PER_PART), *fleet.endpoints("provisioner")]
    job = Job(command, folder)
    wait_until(lambda: rows_of(out), JOB_SECONDS, "a part")
    fleet.kill()
    wait_until(lambda: job.told("the connection broke; trying again"), 30, "a job that waits")
    time.sleep(3)
    assert job.process.poll() is None, job.log.read_text()
    job.process.send_signal(signal.SIGINT)
    job.process.communicate(timeout=30)
    assert job.process.returncode == 130, job.log.read_text()
    fails(69, "all of 3 daemons are away: unix:", [*command, "--json"])
    # One that is back is enough.
    fleet.nodes[2].start()
    job = Job(command, folder)
    of_one = job.finished()
    assert of_one["rows"] == sent.num_rows > of_one["rows_written"], of_one
    assert len(job.told(AWAY)) == 2, job.log.read_text()
    of_one_job(out, sent["volume"].to_pylist())


def main() -> None:
    with server() as database, tempfile.TemporaryDirectory(prefix="fleet-jobs-", ignore_cleanup_errors=True) as temporary:
        database.ask("postgres", f"CREATE DATABASE {DATABASE}")
        folder = Path(temporary)
        fleet = Fleet(folder, database.url(DATABASE))
        try:
            fleet.start()
            one_is_killed(fleet, folder)
            every_address(fleet, folder)
            all_are_away(fleet, folder)
        except BaseException:
            for node in fleet.nodes:
                print(f"{node.state}:\n{node.tail() if node.log.exists() else ''}", file=sys.stderr)
            raise
        finally:
            fleet.kill()
    report("pyarrow on jobs of a fleet", pyarrow.__version__, 6)


if __name__ == "__main__":
    main()
