"""A standby takes over from a database that dies, under three daemons: a synchronous one has all that was answered, and what an asynchronous one has lost is noticed.

    python3 tests/clients/fleet_failover.py [ROUNDS [SEED]]

The daemons follow through relays, as they follow a name or an address that moves to the new primary. The old primary is dead, and stays so.
"""

import os
import pwd
import random
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import botocore.exceptions
from daemon import Tally, report, wait_until
from fleet import known, new_key
from fleet_load import Load, Member, made_key, probe
from postgres import Proxy, Server, as_user, program, server

ROUNDS = 5
DATABASE = "fleet"
STALENESS_SECONDS = 3.0
SLACK_SECONDS = 0.7
WRITERS, SWITCHES, CALLERS = 3, 1, 2
LOAD_SECONDS = (3.0, 6.0)
RECOVERY_SECONDS_MAX = 60
# More than are lost.
CHANGES_OF_ANOTHER_HISTORY = 12


def followed(primary: Server, folder: Path) -> Server:
    """A standby that streams from the primary."""
    folder.mkdir()
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    command = [
        program("pg_basebackup"), "-h", str(primary.folder), "-p", str(primary.port), "-U", "keymill",
        "-D", str(folder / "data"), "-R", "-X", "stream", "-c", "fast", "--no-sync",
    ]
    subprocess.run(as_user(command), cwd=folder, check=True)
    standby = Server(folder)
    standby.start()
    return standby


def synchronous(primary: Server) -> None:
    """From here on, what the primary acknowledges is on the standby."""
    primary.ask("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.ask("postgres", "SELECT pg_reload_conf()")
    wait_until(lambda: primary.ask("postgres", "SELECT sync_state FROM pg_stat_replication") == "sync", 30, "the standby to be synchronous")


def promoted(standby: Server, proxies: list[Proxy]) -> None:
    assert standby.ask("postgres", "SELECT pg_promote()") == "t"
    for proxy in proxies:
        proxy.to = standby.port


def serves_again(member: Member, key: str) -> float:
    deadline = time.monotonic() + RECOVERY_SECONDS_MAX
    while not probe(member, key):
        assert time.monotonic() < deadline, f"{member.name} did not come back: {member.ready()}"
        time.sleep(0.02)
    return time.monotonic()


def fail_over(rounds: int, primary: Server, folder: Path, proxies: list[Proxy], members: list[Member], load: Load, chance: random.Random) -> Server:
    """Under load, again and again. Returns the last primary."""
    key, times = made_key(members[0]), []
    for number in range(rounds):
        standby = followed(primary, folder / f"standby-{number}")
        synchronous(primary)
        time.sleep(chance.uniform(*LOAD_SECONDS))
        began = time.monotonic()
        primary.kill_postmaster() if chance.randrange(2) else primary.kill()
        promoted(standby, proxies)
        is_primary = time.monotonic()
        with ThreadPoolExecutor(len(members)) as threads:
            over = max(threads.map(lambda member: serves_again(member, key), members))
        times.append((over - began, max(over - is_primary, 0)))
        load.check()
        primary = standby
    whole, after = ([one[side] for one in times] for side in (0, 1))
    print(f"{rounds} failovers to a synchronous standby: p50 {statistics.median(whole):.2f} s, at most {max(whole):.2f} s from the primary's death to a change and a key on every node")
    print(f"p50 {statistics.median(after):.2f} s, at most {max(after):.2f} s from when the new primary had been promoted")
    return primary


def refuses(member: Member, key: str) -> bool:
    return member.outcome(key) == "KMSInternalException"


def lose(primary: Server, folder: Path, proxies: list[Proxy], members: list[Member]) -> Server:
    """The standby lacks what was answered last. Nodes that have seen it say so, hand nothing out under what was disabled, and do not take up the other history."""
    disabled, other = new_key(members[0]), new_key(members[0])
    known(members, disabled)
    known(members, other)
    standby = followed(primary, folder / "asynchronous")
    wait_until(lambda: primary.ask("postgres", "SELECT replay_lsn = pg_current_wal_lsn() FROM pg_stat_replication") == "t", 30, "the standby to have everything")
    standby.kill()
    # The last node does not see what the others do now.
    proxies[2].cut()
    members[0].admin.disable_key(KeyId=disabled)
    lost = [new_key(members[0]) for _ in range(3)]
    wait_until(lambda: members[1].outcome(disabled) == "DisabledException", 5, "the change to arrive")
    primary.kill()
    standby.start()
    promoted(standby, proxies)
    proxies[2].mend()
    for member in members[:2]:
        wait_until(lambda: "went back to revision" in member.ready(), STALENESS_SECONDS + 10, f"{member.name} to notice")
        wait_until(lambda: refuses(member, other), 5, f"{member.name} to stop")
        try:
            new_key(member)
        except botocore.exceptions.ClientError as error:
            assert error.response["Error"]["Code"] == "KMSInternalException", error
        else:
            raise AssertionError(f"{member.name} changed a store that went back")
    # The node that has not seen it goes on, and takes the store past the revision that was lost.
    wait_until(lambda: members[2].outcome(other) == "ok", 30, "the last node goes on")
    assert members[2].outcome(disabled) == "ok", "the change is on the new primary after all"
    for _ in range(CHANGES_OF_ANOTHER_HISTORY):
        new_key(members[2])
    time.sleep(3)
    for member in members[:2]:
        assert "lost changes" in member.ready(), f"{member.name} took up another history: {member.ready()!r}"
        for key in (disabled, other):
            assert refuses(member, key), f"{member.name} hands out keys"
    # The operator decides that the new primary is in force.
    for member in members[:2]:
        assert member.daemon.stop() == 0
        (member.daemon.state / "keystore.seen").unlink()
        member.start()
        assert member.outcome(other) == "ok" and member.outcome(lost[0]) == "NotFoundException" and not member.ready()
    print(f"asynchronous: {len(lost) + 1} changes lost, noticed by both nodes that had seen them, also when the other history was {CHANGES_OF_ANOTHER_HISTORY} changes longer")
    return standby


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    seed = sys.argv[2] if len(sys.argv) > 2 else f"{time.time_ns():x}"
    print(f"seed {seed}", flush=True)
    with server() as first, tempfile.TemporaryDirectory(prefix="fleet-failover-", ignore_cleanup_errors=True) as name:
        folder, chance = Path(name), random.Random(seed)
        folder.chmod(0o755)
        first.ask("postgres", f"CREATE DATABASE {DATABASE}")
        proxies = [Proxy(first.port) for _ in range(3)]
        members = []
        for number, proxy in enumerate(proxies):
            url = f"postgres://keymill@127.0.0.1:{proxy.port}/{DATABASE}"
            members.append(Member(f"node-{number}", folder, url, url, folder / "root.key", Tally(), STALENESS_SECONDS))
        primary = first
        try:
            for member in members:
                member.start()
            load = Load(members, seed, STALENESS_SECONDS, WRITERS, SWITCHES, CALLERS)
            load.begin()
            primary = fail_over(rounds, first, folder, proxies, members, load, chance)
            load.end()
            load.everything(chance)
            primary = lose(primary, folder, proxies, members)
            for member in members:
                assert member.daemon.stop() == 0, f"{member.name} did not end cleanly"
            records = load.recorded()
            load.figures()
            print(f"{records:,} audit records in the logs of {len(members)} nodes, none missing; each log is whole")
        except BaseException:
            for member in members:
                print(f"{member.name}:\n{member.daemon.tail() if member.daemon.log.exists() else ''}", file=sys.stderr)
            raise
        finally:
            for member in members:
                member.daemon.kill()
            primary.kill()
    report("boto3 against a fleet that fails over", f"{boto3.__version__} (seed {seed})", sum(member.tally.calls for member in members))


if __name__ == "__main__":
    main()
