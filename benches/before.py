"""Measures the build at hand beside an earlier one: the binaries of both take turns on the same
work.

    tests/clients/.venv/bin/python benches/before.py BEFORE NOW [--rows N] [--rounds N] [QUESTION...]

BEFORE and NOW are binaries of release builds. Questions are octets, bind, cores, export, thin,
wide, rewrap and look; without one, all of them. Files are in /dev/shm, so neither a disk nor its
sync is in any figure.

A row has the median of each side and the median of the turns' ratios. Where one core is asked for,
CPU time (user and system) is compared, which holds on a machine that does other things as well;
where two are, it is the time that has passed, and nothing else may run.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

KEY = "alias/containers"
GROUP_ROWS = 128 * 1024
STREAM_BATCH_ROWS = 8192
READ_BYTES = 1 << 20
# Where a daemon runs that is given one core, and where its client does.
SERVER, CLIENT = {0}, {1}
BOTH = SERVER | CLIENT
SIDES = ("before", "now")


def on(cores: set[int]) -> list[str]:
    """What a command begins with that runs on these cores alone."""
    return ["taskset", "--cpu-list", ",".join(map(str, sorted(cores)))]


def cpu_seconds(pid: int) -> float:
    """What a process has used of any core, threads that have ended included."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def peak_mib(pid: int) -> float:
    """The most memory that a process has had since it became this program: `ru_maxrss` would count what the bench itself had when it forked."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


class Daemon:
    """`keymill dev` of one build, on some cores, in a folder of its own."""

    def __init__(self, binary: Path, folder: Path, cores: set[int]):
        command = [*on(cores), binary, "dev", "--json", "--listen", "127.0.0.1:0", "--dir", folder]
        variables = os.environ | {"KEYMILL_POOL__ENABLED": "false"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=variables)
        said = self.process.stdout.readline()
        assert said, f"{binary} did not become ready"
        self.socket = json.loads(said)["socket"]

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(60) == 0

    def exchange(self, request: bytes) -> tuple[int, float, float]:
        """The bytes of an answer that ends with its connection; the seconds that passed, and the daemon's CPU seconds."""
        before, began = cpu_seconds(self.process.pid), time.monotonic()
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(self.socket)
            sender = threading.Thread(target=stream.sendall, args=(request,))
            sender.start()
            buffer, count, first = memoryview(bytearray(READ_BYTES)), 0, b""
            while read := stream.recv_into(buffer):
                first = first or bytes(buffer[:15])
                count += read
            sender.join()
        assert first == b"HTTP/1.1 200 OK", first
        return count, time.monotonic() - began, cpu_seconds(self.process.pid) - before


def octets(keys: int) -> bytes:
    body = json.dumps({"KeyId": KEY, "KeySpec": "AES_256", "EncryptionContext": {"container": "container-000000000042"}, "Count": keys}).encode()
    head = f"POST /v1/data-keys HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\naccept: application/octet-stream\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def containers(rows: int) -> bytes:
    sink = pa.BufferOutputStream()
    table = volumes(rows).select(["tenant", "volume"])
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, STREAM_BATCH_ROWS)
    body = sink.getvalue().to_pybytes()
    head = f"POST /v1/data-keys/bind?key={KEY}&spec=AES_256&context=tenant,volume HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/vnd.apache.arrow.stream\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def volumes(rows: int) -> pa.Table:
    """The table of the other benches."""
    numbers = range(rows)
    return pa.table({
        "volume": [f"volume-{number:012}" for number in numbers],
        "tenant": [f"tenant-{number % 1000}" for number in numbers],
        "bytes": pa.array([number << 20 for number in numbers], pa.int64()),
    })


def wide(rows: int) -> pa.Table:
    """The same with 30 further columns."""
    table = volumes(rows)
    for at in range(30):
        kind, numbers = at % 4, range(rows)
        column = (
            pa.array([number * (at + 1) for number in numbers], pa.int64()) if kind == 0
            else pa.array([f"text {at} of {number * 7919 % 1_000_003}" for number in numbers]) if kind == 1
            else pa.array([number / (at + 1) for number in numbers], pa.float64()) if kind == 2
            else pa.array([[number % 10, at] for number in numbers], pa.list_(pa.int32()))
        )
        table = table.append_column(f"column_{at}", column)
    return table


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor")


class Row:
    """A row of the table of goals, in the making."""

    def __init__(self, name: str, unit: str, goal: float | None):
        self.name, self.unit, self.goal = name, unit, goal

    def print(self, sides: tuple[str, str], values: list[list[float]]) -> None:
        """`values` are of both sides, by turn; higher is better, and the ratio is the second side's to the first's."""
        ratios = [now / before for before, now in zip(*values, strict=True)]
        ratio, (first, second) = statistics.median(ratios), (statistics.median(side) for side in values)
        goal = "shown" if self.goal is None else f"≥ {self.goal}"
        verdict = "REACHED" if self.goal is None or ratio >= self.goal else "FALLS SHORT"
        print(f"| {self.name} | {sides[1]} {second:.2f} {self.unit} | {sides[0]} {first:.2f} {self.unit} | {ratio:.2f} | {goal} | {verdict}", flush=True)


class Bench:
    def __init__(self, arguments: argparse.Namespace, folder: Path):
        self.binaries = dict(zip(SIDES, (arguments.before.absolute(), arguments.now.absolute())))
        self.rows, self.rounds, self.folder = arguments.rows, arguments.rounds, folder

    def in_turn(self, sides: dict[str, object]) -> dict[str, list]:
        """What each side returns, by turn; a first time is not counted."""
        for side in sides.values():
            side()
        returned = {name: [] for name in sides}
        names = list(sides)
        for turn in range(self.rounds):
            for at in range(len(names)):
                name = names[(turn + at) % len(names)]
                returned[name].append(sides[name]())
        return returned

    def streams(self, what: str, request: bytes, goal: float) -> None:
        """One stream, the daemon on a core of its own."""
        daemons = {side: Daemon(self.binaries[side], self.folder / f"{what}-{side}", SERVER) for side in SIDES}
        os.sched_setaffinity(0, CLIENT)
        turns = self.in_turn({side: lambda daemon=daemon: daemon.exchange(request) for side, daemon in daemons.items()})
        assert len({bytes_ for turn in turns.values() for bytes_, _, _ in turn}) == 1
        for name, at, held in ((f"{what}, Unix socket, one core, CPU", 2, goal), (f"{what}, Unix socket, one core, time", 1, None)):
            rates = [[self.rows / turn[at] / 1e6 for turn in turns[side]] for side in SIDES]
            Row(name, "M rows/s", held).print(SIDES, rates)
        for daemon in daemons.values():
            daemon.stop()
        os.sched_setaffinity(0, BOTH)

    def octets(self) -> None:
        self.streams("octets", octets(self.rows), 1.5)

    def bind(self) -> None:
        self.streams("bind", containers(self.rows), 1.25)

    def cores(self) -> None:
        """One stream of the build at hand, with its client: all on one core, and on two."""
        cores_of = {"one core": SERVER, "two": BOTH}
        for what, request in (("octets", octets(self.rows)), ("bind", containers(self.rows))):
            daemons = {name: Daemon(self.binaries["now"], self.folder / f"{what} on {name}", cores) for name, cores in cores_of.items()}

            def exchange(name: str, daemon: Daemon, request: bytes = request) -> float:
                os.sched_setaffinity(0, cores_of[name])
                return daemon.exchange(request)[1]

            turns = self.in_turn({name: lambda name=name, daemon=daemon: exchange(name, daemon) for name, daemon in daemons.items()})
            rates = [[self.rows / seconds / 1e6 for seconds in turns[name]] for name in daemons]
            Row(f"{what} and its client, Unix socket, a second core", "M rows/s", 1.7).print(tuple(daemons), rates)
            for daemon in daemons.values():
                daemon.stop()
        os.sched_setaffinity(0, BOTH)

    def store(self) -> Path:
        """A store with a key, which no daemon has open."""
        folder = self.folder / "store"
        if not folder.exists():
            Daemon(self.binaries["before"], folder, BOTH).stop()
        return folder

    def job(self, side: str, *arguments: str | Path, cores: set[int] = BOTH, keep: bool = False) -> dict[str, float]:
        """Runs a job; its seconds, CPU seconds (all, and those outside of the kernel), peak memory, and when and after how much CPU its first look had ended."""
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        command = [*on(cores), self.binaries[side], *arguments, "--dir", self.store(), "--key", KEY, "--out", out, "--workers", str(len(cores))]
        began, look, peak = time.monotonic(), 0.0, 0.0
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            peak = max(peak, peak_mib(process.pid))
            if not look and (out / "_plan.json").exists():
                look = cpu_seconds(process.pid)
            time.sleep(0.002)
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        assert process.returncode == 0, process.stderr.read().decode()
        process.stderr.close()
        usage = ended[2]
        bytes_ = sum(part.stat().st_size for part in out.glob("part-*"))
        if not keep:
            shutil.rmtree(out)
        return {"time": time.monotonic() - began, "cpu": usage.ru_utime + usage.ru_stime, "user": usage.ru_utime, "peak": peak, "look": look, "bytes": bytes_}

    def jobs(self, what: str, rows: int, goal: float | None, *arguments: str | Path) -> dict[str, list[dict[str, float]]]:
        turns = self.in_turn({side: lambda side=side: self.job(side, *arguments) for side in SIDES})
        for name, at, held in ((f"{what}, CPU", "cpu", goal), (f"{what}, CPU outside of the kernel", "user", None), (f"{what}, both cores, time", "time", None)):
            Row(name, "M rows/s", held).print(SIDES, [[rows / turn[at] / 1e6 for turn in turns[side]] for side in SIDES])
        peaks = {side: max(turn["peak"] for turn in turns[side]) for side in SIDES}
        print(f"peak memory of {what}: now {peaks['now']:.0f} MiB, before {peaks['before']:.0f} MiB")
        return turns

    def export(self) -> None:
        arguments = ("export", "--count", str(self.rows))
        self.jobs("export", self.rows, 1.35, *arguments)
        names = ("one core", "two")
        by_cores = {name: lambda cores=cores: self.job("now", *arguments, cores=cores)["time"] for name, cores in zip(names, (SERVER, BOTH))}
        turns = self.in_turn(by_cores)
        Row("export, a second core", "M rows/s", 1.7).print(names, [[self.rows / seconds / 1e6 for seconds in turns[name]] for name in names])

    def table(self, name: str, made, rows: int, **settings) -> Path:
        path = self.folder / f"{name}.parquet"
        if not path.exists():
            pq.write_table(made(rows), path, row_group_size=GROUP_ROWS, **settings)
        return path

    def thin(self) -> None:
        table = self.table("thin", volumes, self.rows, compression="none")
        turns = self.jobs("provision, thin", self.rows, 1.8, "provision", table, "--id-column", "volume", "--context", "tenant,volume")
        for side in SIDES:
            print(f"{side}: {(turns[side][0]['bytes'] - table.stat().st_size) / self.rows:.1f} bytes a row above the input's")

    def wide(self) -> None:
        rows = self.rows // 2
        table = self.table("wide", wide, rows)
        turns = self.jobs("provision, wide", rows, 5, "provision", table, "--id-column", "volume", "--context", "tenant,volume")
        copy = self.folder / "copy.parquet"

        def by_pyarrow() -> float:
            began = time.process_time()
            pq.write_table(pq.read_table(table), copy, row_group_size=GROUP_ROWS)
            return time.process_time() - began

        def by_cp() -> float:
            began = os.times()
            subprocess.run(["cp", table, copy], check=True)
            ended = os.times()
            return max(ended.children_user - began.children_user + ended.children_system - began.children_system, 0.001)

        others = self.in_turn({"pyarrow": by_pyarrow, "cp": by_cp})
        copy.unlink()
        ours = [rows / turn["cpu"] / 1e6 for turn in turns["now"]]
        for name, goal in (("pyarrow", 4), ("cp", None)):
            theirs = [rows / seconds / 1e6 for seconds in others[name]]
            Row(f"provision, wide, beside {name}, CPU", "M rows/s", goal).print((name, "now"), [theirs, ours])

    def rewrap(self) -> None:
        table = self.table("thin", volumes, self.rows, compression="none")
        self.job("before", "provision", table, "--id-column", "volume", "--context", "tenant,volume", "--context-map" if self.has_map() else "--json", keep=True)
        provisioned = self.folder / "provisioned"
        shutil.rmtree(provisioned, ignore_errors=True)
        (self.folder / "out").rename(provisioned)
        self.jobs("rewrap", self.rows, 1.4, "rewrap", provisioned)

    def has_map(self) -> bool:
        """Whether the build before leaves the map out unless it is asked for."""
        said = subprocess.run([self.binaries["before"], "provision", "--help"], capture_output=True, check=True, text=True)
        return "--context-map" in said.stdout

    def look(self) -> None:
        """The share of the first look in the CPU time of a job."""
        table = self.table("thin", volumes, self.rows, compression="none")
        for side in SIDES:
            turns = [self.job(side, "provision", table, "--id-column", "volume", "--context", "tenant,volume") for _ in range(self.rounds)]
            looks, all_ = (statistics.median(turn[at] for turn in turns) for at in ("look", "cpu"))
            print(f"the first look of {side}: {looks:.2f} s of {all_:.2f} s of CPU, {looks / all_ * 100:.0f} %")


def main() -> None:
    questions = ["octets", "bind", "cores", "export", "thin", "wide", "rewrap", "look"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("now", type=Path)
    parser.add_argument("questions", nargs="*", default=questions)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    print(f"{arguments.rows} rows, {arguments.rounds} turns, {os.cpu_count()} × {processor()}", flush=True)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        bench = Bench(arguments, Path(folder))
        for question in arguments.questions:
            if question not in questions:
                sys.exit(f"{question} is not a question; ask for {', '.join(questions)}")
            getattr(bench, question)()


if __name__ == "__main__":
    main()
