"""A synchronous standby is promoted, and the primary before it lives on, with nodes that are left there. One whose
`store.freshness` is "write" hands nothing out once it cannot commit; one that only reads goes on, which is what the setting is for.
"""

import sys
import tempfile
import time
from pathlib import Path

import boto3
from daemon import Tally, report, wait_until
from fleet import BOUND_SECONDS, SLACK_SECONDS, STALENESS_SECONDS, Node, known, new_key
from fleet_failover import followed, synchronous
from postgres import Proxy, server

DATABASE = "fleet"
# Of a write that is not answered, which is waited for.
WRITE_SECONDS = 2.0


def moves(proxy: Proxy, port: int) -> None:
    """What reaches the database through it reaches another one from now on."""
    proxy.cut()
    proxy.to = port
    proxy.mend()


def handed_out_last(node: Node, key: str, since: float, seconds: float) -> float:
    """When the node has handed out a key for the last time, in seconds since then."""
    last = 0.0
    while time.monotonic() - since < seconds:
        before = time.monotonic()
        if node.outcome(key) == "ok":
            last = before - since
        time.sleep(0.02)
    return last


def main() -> None:
    tally = Tally()
    with server() as primary, tempfile.TemporaryDirectory(prefix="fleet-deposed-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        primary.ask("postgres", f"CREATE DATABASE {DATABASE}")
        proxies = [Proxy(primary.port) for _ in range(3)]
        nodes = []
        for number, (proxy, freshness) in enumerate(zip(proxies, ("write", "write", "read"))):
            url = f"postgres://keymill@127.0.0.1:{proxy.port}/{DATABASE}"
            node = Node(f"node-{number}", folder, url, "", folder / "root.key", tally)
            node.daemon.overrides["KEYMILL_STORE__FRESHNESS"] = freshness
            nodes.append(node)
        moved, left, reads = nodes
        standby = None
        try:
            for node in nodes:
                node.start()
            standby = followed(primary, folder / "standby")
            synchronous(primary)
            key, other = new_key(moved), new_key(moved)
            known(nodes, key)
            known(nodes, other)
            assert primary.ask(DATABASE, "SELECT count(*) FROM keymill.alive") == "2"
            # Longer than a node may go without a write.
            time.sleep(STALENESS_SECONDS + 1)
            assert [node.outcome(key) for node in nodes] == ["ok"] * 3, [node.ready() for node in nodes]

            assert standby.ask("postgres", "SELECT pg_promote()") == "t"
            moves(proxies[0], standby.port)
            wait_until(lambda: moved.outcome(key) == "ok" and not moved.ready(), 30, "the node that has moved")
            moved.admin.disable_key(KeyId=key)
            answered = time.monotonic()
            last = handed_out_last(left, key, answered, STALENESS_SECONDS + WRITE_SECONDS + 2)
            print(f"a key left the node on the deposed primary for the last time {last:.2f} s after its KMS key was disabled")
            assert last <= STALENESS_SECONDS + SLACK_SECONDS, last
            assert left.outcome(other) == "KMSInternalException" and "has not confirmed for" in left.ready(), left.ready()
            assert reads.outcome(key) == "ok", "a node that only reads is not told"
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '%keymill.alive%'"
            assert int(primary.ask(DATABASE, waiting)) <= 1, "one process of the server waits for a node"

            for proxy in proxies[1:]:
                moves(proxy, standby.port)
            for node in (left, reads):
                wait_until(lambda: node.outcome(key) == "DisabledException", 30, f"{node.name} on the new primary")
                wait_until(lambda: node.outcome(other) == "ok", BOUND_SECONDS + STALENESS_SECONDS, f"{node.name} goes on")
            assert standby.ask(DATABASE, "SELECT count(*) FROM keymill.alive") == "2"
            for node in nodes:
                assert node.daemon.stop() == 0, f"{node.name} did not end cleanly"
        except BaseException:
            for node in nodes:
                print(f"{node.name}:\n{node.daemon.tail() if node.daemon.log.exists() else ''}", file=sys.stderr)
            raise
        finally:
            for node in nodes:
                node.daemon.kill()
            if standby is not None:
                standby.kill()
    report("boto3 beside a primary that was deposed", boto3.__version__, tally.calls)


if __name__ == "__main__":
    main()
