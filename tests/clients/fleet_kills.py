"""Three daemons on one PostgreSQL behind PgBouncer, under load, while all of them get kill -9 at random and start again: what was answered is so, and it goes on by itself.

    python3 tests/clients/fleet_kills.py [SECONDS [SEED]]

Killed are one, two or all of the daemons, one process of the database that serves a connection, its first process, the pooler, and several of these at once. A fault is over
when every node takes a change and hands out a key; until then no other begins. A daemon that is killed is gone once its threads of the lowest priority have been given a
moment, which takes seconds on a machine that is busy; what follows is counted apart. Nothing but what was killed is started again.
"""

import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
from daemon import Tally, report
from fleet_load import Load, Member, made_key, probe
from postgres import Pooler, Server, server

SECONDS = 300
DATABASE = "fleet"
STALENESS_SECONDS = 3.0
WRITERS, SWITCHES, CALLERS = 3, 2, 4
# From a fault to a change and a key on every node.
RECOVERY_SECONDS_MAX = 60
# What is killed, and how often of a hundred.
KINDS = {"one daemon": 35, "two daemons": 10, "all daemons": 5, "a backend": 15, "the database": 15, "the pooler": 10, "a daemon and the database": 10}
# A moment in which what was killed is away.
AWAY_SECONDS = 2.0
PAUSE_SECONDS = (0.5, 3.0)


class Run:
    def __init__(self, database: Server, pooler: Pooler, members: list[Member], load: Load, chance: random.Random):
        self.database, self.pooler, self.members, self.load, self.chance = database, pooler, members, load, chance
        self.probes = [made_key(member) for member in members]
        self.kinds: Counter = Counter()
        self.gone = 0.0
        self.ends: list[float] = []
        # From when what was killed was gone, and from when it had been started again.
        self.recovered: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def daemons(self, count: int) -> None:
        victims = self.chance.sample(self.members, count)
        for member in victims:
            began = time.monotonic()
            member.daemon.kill()
            self.ends.append(time.monotonic() - began)
        self.gone = time.monotonic()
        time.sleep(self.chance.uniform(0, AWAY_SECONDS))
        with ThreadPoolExecutor(count) as threads:
            list(threads.map(lambda member: member.start(), victims))

    def postmaster(self) -> None:
        self.database.kill_postmaster()
        self.gone = time.monotonic()
        time.sleep(self.chance.uniform(0, AWAY_SECONDS))
        self.database.start_again()

    def pooled(self) -> None:
        self.pooler.kill()
        self.gone = time.monotonic()
        time.sleep(self.chance.uniform(0, AWAY_SECONDS))
        self.pooler.start()

    def both(self) -> None:
        """The daemon starts while the database does."""
        starting = threading.Thread(target=self.daemons, args=(1,))
        starting.start()
        self.postmaster()
        starting.join()

    def fault(self) -> None:
        kind = self.chance.choices(list(KINDS), list(KINDS.values()))[0]
        faults: dict[str, Callable[[], None]] = {
            "one daemon": lambda: self.daemons(1), "two daemons": lambda: self.daemons(2), "all daemons": lambda: self.daemons(len(self.members)),
            "a backend": self.database.kill_backend, "the database": self.postmaster, "the pooler": self.pooled, "a daemon and the database": self.both,
        }
        self.kinds[kind] += 1
        self.gone = time.monotonic()
        faults[kind]()
        started = time.monotonic()
        with ThreadPoolExecutor(len(self.members)) as threads:
            over = max(threads.map(self.serves_again, self.members, self.probes))
        self.recovered[kind].append((over - self.gone, max(over - started, 0)))
        self.load.check()

    def serves_again(self, member: Member, key: str) -> float:
        deadline = time.monotonic() + RECOVERY_SECONDS_MAX
        while not probe(member, key):
            assert time.monotonic() < deadline, f"{member.name} did not come back: {member.ready()}\n{member.daemon.tail()}"
            time.sleep(0.02)
        return time.monotonic()

    def figures(self) -> None:
        print(f"{self.kinds.total()} faults: " + ", ".join(f"{kind} {count}" for kind, count in self.kinds.items()))
        print(f"{sum(member.failed_starts for member in self.members)} starts of a daemon found no database, and were repeated")
        if self.ends:
            print(f"a killed daemon was gone: p50 {statistics.median(self.ends):.2f} s, at most {max(self.ends):.2f} s after the signal")
        for kind, times in [*self.recovered.items(), ("any", [one for times in self.recovered.values() for one in times])]:
            whole, after = ([one[side] for one in times] for side in (0, 1))
            print(
                f"back after {kind}: p50 {statistics.median(whole):.2f} s, at most {max(whole):.2f} s from its end; "
                f"p50 {statistics.median(after):.2f} s, at most {max(after):.2f} s from when it was started again"
            )
        print(f"PostgreSQL {self.database.version}, PgBouncer {self.pooler.version}")


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    seed = sys.argv[2] if len(sys.argv) > 2 else f"{time.time_ns():x}"
    print(f"seed {seed}", flush=True)
    with server() as database, tempfile.TemporaryDirectory(prefix="fleet-kills-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        database.ask("postgres", f"CREATE DATABASE {DATABASE}")
        pooler = Pooler(database.folder, database)
        members = []
        for number in range(3):
            # One of them has no notifications.
            notify = database.url(DATABASE) if number else ""
            members.append(Member(f"node-{number}", folder, pooler.url(DATABASE), notify, folder / "root.key", Tally(), STALENESS_SECONDS))
        try:
            pooler.start()
            for member in members:
                member.start()
            load = Load(members, seed, STALENESS_SECONDS, WRITERS, SWITCHES, CALLERS)
            chance = random.Random(seed)
            run = Run(database, pooler, members, load, chance)
            load.begin()
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                time.sleep(chance.uniform(*PAUSE_SECONDS))
                run.fault()
            load.end()
            load.everything(chance)
            for member in members:
                assert member.daemon.stop() == 0, f"{member.name} did not end cleanly"
            records = load.recorded()
            run.figures()
            load.figures()
            print(f"{records:,} audit records in the logs of {len(members)} nodes, none missing; each log is whole")
        except BaseException:
            for member in members:
                print(f"{member.name}:\n{member.daemon.tail() if member.daemon.log.exists() else ''}", file=sys.stderr)
            print(f"the database:\n{(database.folder / 'log').read_text()[-2000:]}", file=sys.stderr)
            raise
        finally:
            for member in members:
                member.daemon.kill()
            pooler.kill()
    report("boto3 against a fleet that is killed", f"{boto3.__version__} (seed {seed})", sum(member.tally.calls for member in members))


if __name__ == "__main__":
    main()
