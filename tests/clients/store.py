"""The store of a real daemon: what it does when its disk is full, its file is moved, or no descriptor is left. What a kill does is in crash.py."""

import contextlib
import json
import os
import resource
import shutil
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import boto3
import botocore.config
import botocore.exceptions
from daemon import ALIAS, Daemon, Tally, admin_address, new_key, refused, report, running, wait_until

SMALL_DISK = "mount -t tmpfs -o size=2m tmpfs \"$0\" && exec \"$@\""
# The pauses between two tries grow to a minute; these are the first ones.
HEALED_SECONDS = 30


def admin_client(mill: Daemon, tally: Tally):
    """The admin, over one connection, without retries."""
    principal = mill.principal("admin")
    client = boto3.client(
        "kms", endpoint_url=mill.endpoint, region_name=mill.facts["region"],
        config=botocore.config.Config(retries={"total_max_attempts": 1}, max_pool_connections=1),
        aws_access_key_id=principal["access_key_id"], aws_secret_access_key=principal["secret_access_key"],
    )
    client.meta.events.register("after-call.kms", tally.count)
    return client


def fails(client) -> bool:
    """Whether a key cannot be created, by a failure of the daemon."""
    try:
        client.create_key()
        return False
    except botocore.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] == "KMSInternalException", error.response
        return True


def readiness(mill: Daemon) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{admin_address(mill.facts)}/ready", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def halted(mill: Daemon, why: str) -> None:
    """Not ready, with the reason; the metric; and `/status`."""
    status, text = readiness(mill)
    assert status == 503 and "the store takes no changes" in text and why in text, (status, text)
    assert mill.metric("keymill_keystore_halted") == 1
    with urllib.request.urlopen(f"{admin_address(mill.facts)}/status", timeout=30) as answer:
        told = json.load(answer)
    assert told["ready"] is False and why in told["not_ready_because"], told


def comes_back(mill: Daemon, client) -> None:
    """By itself: nobody asks for a change meanwhile."""
    wait_until(lambda: readiness(mill)[0] == 200, HEALED_SECONDS, "a store that takes changes")
    assert mill.metric("keymill_keystore_halted") == 0
    assert not fails(client)


def full_disk(tally: Tally) -> None:
    folder = Path(tempfile.mkdtemp(prefix="keymill-store-"))
    # A mount of its own, which needs no rights where user namespaces are allowed.
    wrapper = ("unshare", "--map-root-user", "--mount", "sh", "-c", SMALL_DISK, str(folder))
    try:
        with running({"KEYMILL_STORE__PATH": str(folder / "keystore.db")}, wrapper) as mill:
            inside = Path(f"/proc/{mill.process.pid}/root{folder}")
            client = admin_client(mill, tally)
            kept = client.create_key()["KeyMetadata"]["KeyId"]

            def stays_halted() -> bool:
                # Opened anew, the store folds its log in, and has room again for a change or two.
                with contextlib.suppress(OSError), (inside / "filler").open("ab", buffering=0) as filler:
                    while filler.write(bytes(4096)):
                        pass
                return fails(client) and readiness(mill)[0] == 503

            wait_until(stays_halted, 60, "a disk that takes no change")
            halted(mill, "full")
            assert client.generate_data_key_without_plaintext(KeyId=ALIAS, KeySpec="AES_256")["CiphertextBlob"]
            (inside / "filler").unlink()
            comes_back(mill, client)
            known = {key["KeyId"] for key in client.list_keys()["Keys"]}
            assert kept in known, "a key that was answered is gone"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def moved_files(tally: Tally) -> int:
    """A store or a log that is moved away is noticed before a change is answered. Returns how many were."""
    names = ("keystore.db", "keystore.db-wal")
    with running() as mill:
        client = admin_client(mill, tally)
        for name in names:
            lies, away = mill.state / name, mill.state / "away"
            os.rename(lies, away)
            assert fails(client), f"a change was answered without {name}"
            halted(mill, "is not the file that was opened")
            os.rename(away, lies)
            comes_back(mill, client)
        before = {key["KeyId"] for key in client.list_keys()["Keys"]}
        assert mill.stop() == 0
        mill.start()
        assert {key["KeyId"] for key in mill.client("admin", tally).list_keys()["Keys"]} == before
    return len(names)


def no_descriptors(tally: Tally) -> None:
    """A change that is answered is in force, and one needs no descriptor."""
    with running() as mill:
        key, arn, *_ = new_key(mill, "alias/descriptors", tally)
        client = admin_client(mill, tally)
        client.describe_key(KeyId=key)
        _, hard = resource.prlimit(mill.process.pid, resource.RLIMIT_NOFILE)
        soft = resource.prlimit(mill.process.pid, resource.RLIMIT_NOFILE, (3, hard))[0]
        client.disable_key(KeyId=key)
        refused("DisabledException", f"{arn} is disabled.", client.generate_data_key_without_plaintext, KeyId=key, KeySpec="AES_256")
        assert not fails(client)
        seen = (mill.state / "keystore.seen").read_text()
        resource.prlimit(mill.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert int(seen.split()[0]) == mill.metric("keymill_keystore_revision"), seen
        mill.kill()
        mill.start()
        refused("DisabledException", f"{arn} is disabled.", mill.client("admin", tally).generate_data_key_without_plaintext, KeyId=key, KeySpec="AES_256")


def main() -> None:
    tally = Tally()
    full_disk(tally)
    print("a full disk: not ready, and back by itself")
    print(f"{moved_files(tally)} files moved away: each noticed before a change was answered")
    no_descriptors(tally)
    print("no descriptor left: what was answered is in force")
    report("boto3 and the store", boto3.__version__, tally.calls)


if __name__ == "__main__":
    main()
