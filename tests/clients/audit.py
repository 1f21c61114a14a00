"""The audit log of a real daemon: nothing that left is without a record, whatever happens to the disk or the log. What a kill does is in kills.py."""

import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import botocore.config
import botocore.exceptions
from daemon import ALIAS, BINARY, Daemon, Tally, admin_address, environment, refused, report, running, wait_until

CALLERS = 8
SMALL_DISK = "mount -t tmpfs -o size=16m tmpfs \"$0\" && exec \"$@\""


def records(log: Path) -> list[dict]:
    """Every record, in order."""
    lines = [json.loads(line) for file in sorted(log.glob("*.jsonl")) for line in file.read_bytes().splitlines()]
    return [line for line in lines if "eventVersion" in line]


def verify(mill: Daemon, **overrides: str) -> tuple[int, dict]:
    """`keymill audit verify` on the daemon's folder: its status and what it found."""
    command = [BINARY, "audit", "verify", "--dir", mill.state, "--json"]
    run = subprocess.run(command, env=environment(**overrides), capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode in (0, 1), run.stderr
    return run.returncode, json.loads(run.stdout)


def whole(mill: Daemon, **overrides: str) -> dict:
    status, found = verify(mill, **overrides)
    assert status == 0 and found["whole"] and found["findings"] == [], found
    return found


def no_secret(mill: Daemon, tally: Tally) -> None:
    """Neither a plaintext nor a blob, a signature or a secret is in the log."""
    admin, consumer = mill.client("admin", tally), mill.client("consumer", tally)
    made = admin.generate_data_key(KeyId=ALIAS, KeySpec="AES_256")
    consumer.decrypt(CiphertextBlob=made["CiphertextBlob"])
    wait_until(lambda: records(mill.state / "audit")[-1]["eventName"] == "Decrypt", 10, "the last record")
    text = b"".join(file.read_bytes() for file in (mill.state / "audit").glob("*.jsonl"))
    assert b"AKIA" in text and b"Signature" not in text
    secrets = [made["Plaintext"], made["CiphertextBlob"], *(mill.principal(role)["secret_access_key"].encode() for role in ("admin", "consumer"))]
    for secret in secrets:
        assert secret not in text and base64.b64encode(secret) not in text and secret.hex().encode() not in text


def tampering(mill: Daemon) -> int:
    """Cut off, edited, reordered, replaced: each is found and named, and no daemon starts on it. Returns how many were."""
    log = mill.state / "audit"
    sound = mill.state.parent / "sound"
    shutil.copytree(log, sound)
    last = max(file for file in log.glob("*.jsonl"))
    lines = last.read_bytes().splitlines(keepends=True)
    chain = [number for number, line in enumerate(lines) if line.startswith(b'{"keymillChain"')]
    first_record = next(number for number, line in enumerate(lines) if line.startswith(b'{"eventVersion"'))
    second = next(number for number in range(first_record + 1, len(lines)) if lines[number].startswith(b'{"eventVersion"'))
    edited = lines.copy()
    edited[first_record] = edited[first_record].replace(b'"readOnly":true', b'"readOnly":null').replace(b'"readOnly":false', b'"readOnly":0')
    reordered = lines.copy()
    reordered[first_record], reordered[second] = reordered[second], reordered[first_record]
    cases = {
        "cut off": lines[: chain[-2] + 1],
        "edited": edited,
        "edited: lines": reordered,
        "missing": lines[: chain[1] + 1] + lines[chain[2] + 1 :],
        "edited: a log file begins with a header": lines[first_record:],
    }
    for expected, changed in cases.items():
        assert changed != lines
        last.write_bytes(b"".join(changed))
        status, found = verify(mill)
        assert status == 1 and any(expected in finding for finding in found["findings"]), f"{expected}: {found}"
        last.write_bytes(b"".join(lines))
    # Files of another log, as sound in itself as this one.
    with running() as other:
        other.client("admin").create_key()
        assert other.stop() == 0
        shutil.rmtree(log)
        shutil.copytree(other.state / "audit", log)
    status, found = verify(mill)
    assert status == 1 and found["findings"], found
    started = subprocess.run(
        [BINARY, "serve", "--config", mill.state / "keymill.toml"], env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )
    assert started.returncode != 0 and "keymill audit verify" in started.stderr, started.stderr
    shutil.rmtree(log)
    log.mkdir()
    status, found = verify(mill)
    assert status == 1 and "there is no log file" in found["findings"][0], found
    log.rmdir()
    shutil.copytree(sound, log)
    whole(mill)
    return len(cases) + 2


def full_disk(tally: Tally) -> int:
    """A full disk stops issuing before a key leaves, says so, and ends by itself. Returns how many calls were refused meanwhile."""
    folder = Path(tempfile.mkdtemp(prefix="keymill-disk-"))
    overrides = {"KEYMILL_AUDIT__PATH": str(folder / "audit"), "KEYMILL_AUDIT__JOURNAL_BYTES": str(1 << 20)}
    # A mount of its own, which needs no rights where user namespaces are allowed.
    wrapper = ("unshare", "--map-root-user", "--mount", "sh", "-c", SMALL_DISK, str(folder))
    try:
        with running(overrides, wrapper) as mill:
            inside = Path(f"/proc/{mill.process.pid}/root{folder}")
            config = botocore.config.Config(retries={"total_max_attempts": 1})
            principal = mill.principal("provisioner")
            client = boto3.client(
                "kms", endpoint_url=mill.endpoint, region_name=mill.facts["region"], config=config,
                aws_access_key_id=principal["access_key_id"], aws_secret_access_key=principal["secret_access_key"],
            )
            client.meta.events.register("after-call.kms", tally.count)
            kept, refusals = [], 0

            def issue() -> bool:
                nonlocal refusals
                try:
                    context = {"padding": "x" * 4000}
                    answer = client.generate_data_key_without_plaintext(KeyId=ALIAS, KeySpec="AES_256", EncryptionContext=context)
                    kept.append(answer["ResponseMetadata"]["RequestId"])
                    return True
                except botocore.exceptions.ClientError as error:
                    assert error.response["Error"]["Code"] == "KMSInternalException", error.response
                    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 500
                    refusals += 1
                    return False

            assert issue()
            with contextlib.suppress(OSError), (inside / "filler").open("wb") as filler:
                while True:
                    filler.write(bytes(65536))
                    filler.flush()
            for _ in range(20_000):
                if not issue():
                    break
            assert refusals, "a full disk was never noticed"
            assert not issue() and not issue()
            try:
                urllib.request.urlopen(f"{admin_address(mill.facts)}/ready", timeout=30)
                raise AssertionError("/ready says yes while no key is issued")
            except urllib.error.HTTPError as error:
                assert error.code == 503
            assert mill.metric("keymill_audit_failures_total") >= 3
            assert "audit log cannot be written: no key is issued until it can" in mill.tail()
            (inside / "filler").unlink()
            wait_until(issue, 30, "keys again once there is room")
            assert "audit log is written again" in mill.tail()
            wait_until(lambda: kept[-1] in {record["requestID"] for record in records(inside / "audit")}, 10, "the last record")
            logged = [record["requestID"] for record in records(inside / "audit") if record["eventName"] == "GenerateDataKeyWithoutPlaintext" and "errorCode" not in record]
            assert len(set(logged)) == len(logged) and set(kept) <= set(logged), "a key left without a record"
            copy = mill.state.parent / "copy"
            shutil.copytree(inside / "audit", copy)
            whole(mill, KEYMILL_AUDIT__PATH=str(copy))
            return refusals
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def rotation(tally: Tally) -> int:
    """Files of the configured size, verified as one log. Returns how many there are."""
    overrides = {"KEYMILL_AUDIT__FILE_BYTES_MAX": str(1 << 20), "KEYMILL_AUDIT__DURABILITY": "disk"}
    with running(overrides) as mill:
        client = mill.client("provisioner", tally)
        context = {"padding": "x" * 4000}
        log = mill.state / "audit"
        stop = threading.Event()

        def busy() -> None:
            while not stop.is_set():
                answer = client.generate_data_key_without_plaintext(KeyId=ALIAS, KeySpec="AES_256", EncryptionContext=context)
                # Durable means: in the log, not only in the journal.
                assert answer["ResponseMetadata"]["RequestId"]

        with ThreadPoolExecutor(CALLERS) as threads:
            callers = [threads.submit(busy) for _ in range(CALLERS)]
            wait_until(lambda: len(list(log.glob("*.jsonl"))) >= 3, 120, "three files")
            stop.set()
        for caller in callers:
            caller.result()
        answer = client.generate_data_key_without_plaintext(KeyId=ALIAS, KeySpec="AES_256")
        assert records(log)[-1]["requestID"] == answer["ResponseMetadata"]["RequestId"], "with durability disk a key leaves after its record's sync"
        found = whole(mill)
        assert found["files"] >= 3, found
        return found["files"]


def audit(mill: Daemon, *arguments: str) -> tuple[int, str]:
    """A command of `keymill audit` on the daemon's folder: its status and all that it said."""
    command = [BINARY, "audit", arguments[0], "--dir", mill.state, *arguments[1:]]
    run = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=300)
    return run.returncode, run.stdout + run.stderr


def is_ready(mill: Daemon) -> bool:
    try:
        return urllib.request.urlopen(f"{admin_address(mill.facts)}/ready", timeout=10).status == 200
    except urllib.error.HTTPError:
        return False


def moved(tally: Tally) -> int:
    """Files and folders that others rename, move and remove; anchors, and a beginning that is acknowledged. Returns the calls."""
    calls = 0
    with running({"KEYMILL_AUDIT__DURABILITY": "disk"}) as mill:
        log, anchor = mill.state / "audit", mill.state.parent / "anchor"

        def call() -> None:
            nonlocal calls
            # Not kept: a daemon that is started again has another port.
            mill.client("provisioner", tally).generate_data_key_without_plaintext(KeyId=ALIAS, KeySpec="AES_256")
            calls += 1

        def newest() -> Path:
            return max(log.glob("*.jsonl"), key=lambda path: path.name.split("-")[2])

        # As logrotate does it: the very next record is in the new file.
        for suffix in (".1", "-20261128"):
            call()
            files = len(list(log.glob("*.jsonl")))
            newest().rename(f"{newest()}{suffix}")
            call()
            assert len(list(log.glob("*.jsonl"))) == files, "one was renamed, one begun"
            assert records(log)[-1]["eventName"] == "GenerateDataKeyWithoutPlaintext", records(log)[-1]
            whole(mill)
        # Moved away: not a key until it is back.
        away = log.with_name("away")
        log.rename(away)
        wait_until(lambda: not is_ready(mill), 5, "not ready without the folder")
        refused_call = 0
        try:
            call()
        except botocore.exceptions.ClientError as error:
            assert error.response["Error"]["Code"] == "KMSInternalException", error
            refused_call = 1
        assert refused_call == 1 and mill.metric("keymill_audit_failures_total") > 0
        away.rename(log)
        wait_until(lambda: is_ready(mill), 5, "ready with the folder")
        call()
        whole(mill)
        # Old files elsewhere: red without the anchor, whole from it.
        assert audit(mill, "verify", "--anchor", str(anchor))[0] == 0
        call()
        for file in log.glob("*.jsonl?*"):
            file.unlink()
        status, said = audit(mill, "verify")
        assert status == 1 and "missing" in said, said
        status, said = audit(mill, "verify", "--from", str(anchor), "--anchor", str(anchor))
        assert status == 0 and "whole" in said, said
        text = anchor.read_text()
        number = text.split()[2]
        anchor.write_text(text.replace(f" {number} ", f" {int(number) + 1} "))
        status, said = audit(mill, "verify", "--from", str(anchor))
        assert status == 2 and "another root key" in said, said
        # Removed while it runs, and with it all that there was; then a store without its log.
        shutil.rmtree(log)
        wait_until(lambda: not is_ready(mill), 5, "not ready without the folder")
        assert mill.stop() == 0
        shutil.rmtree(log)
        mill.start()
        call()
        status, said = audit(mill, "acknowledge", "--anchor", str(anchor))
        assert status == 0 and "acknowledged" in said, said
        status, said = audit(mill, "verify")
        assert status == 1 and "missing" in said, said
        call()
        status, said = audit(mill, "verify", "--from", str(anchor), "--anchor", str(anchor))
        assert status == 0, said
        told = [record for record in records(log) if record["eventName"] == "AcknowledgeAuditLog"]
        assert len(told) == 1 and told[0]["requestParameters"]["group"] == 0, told
        # Not for a log that is whole, and not for one that is damaged.
        status, said = audit(mill, "verify", "--from", str(anchor))
        assert status == 0, said
        assert mill.stop() == 0
        newest().write_bytes(newest().read_bytes().replace(b"GenerateDataKey", b"GenerateDataKez", 1))
        status, said = audit(mill, "acknowledge", "--anchor", str(anchor))
        assert status == 1 and "edited" in said, said
    return calls


def main() -> None:
    tally = Tally()
    with running() as mill:
        no_secret(mill, tally)
        denied = "AccessDeniedException"
        refused(denied, None, mill.client("provisioner", tally).disable_key, KeyId=mill.arn("key/" + mill.client("admin").list_keys()["Keys"][0]["KeyId"]))
        wait_until(lambda: records(mill.state / "audit")[-1].get("errorCode") == denied, 10, "the refusal's record")
        assert mill.stop() == 0
        print(f"{tampering(mill)} ways of tampering, each found")
    print(f"a full disk: {full_disk(tally)} calls refused, and none of the keys that left is without a record")
    print(f"rotation: {rotation(tally)} files")
    print(f"moved, removed and acknowledged: {moved(tally)} calls")
    report("boto3 and the audit log", boto3.__version__, tally.calls)


if __name__ == "__main__":
    main()
