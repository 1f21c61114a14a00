"""Backup and restore, as on the day when the disk is lost.

A backup of a loaded daemon, changes after it, the store gone, the restore. What was handed out
before opens again, what was changed since is as the restore has said, and a backup or a restore
that is killed at any point leaves nothing that is taken for whole.
"""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import botocore.exceptions
from daemon import ALIAS, BINARY, NOT_ALLOWED_TO_OPEN, Daemon, Tally, admin_address, environment, new_key, refused, report, running

# Enough records that a command can be killed while it writes them.
MANY_PRINCIPALS = 400
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kms:ListKeys", "Resource": "*", "Sid": "A" * 8000}]}
KILLS = 12
FOREIGNER = 12345


def keymill(*arguments: object, status: int = 0, cwd: Path | None = None) -> subprocess.CompletedProcess:
    """Runs a command to its end, and holds it to its exit status."""
    done = subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, env=environment(), cwd=cwd, check=False, timeout=300)
    assert done.returncode == status, f"{arguments} ended with {done.returncode}, not {status}: {done.stdout}{done.stderr}"
    return done


def answer(*arguments: object, status: int = 0) -> dict:
    return json.loads(keymill(*arguments, "--json", status=status).stdout)


class Load:
    """Calls without a pause, beside whatever else is done; none may fail."""

    def __init__(self, mill: Daemon, tally: Tally):
        self.client, self.stopped, self.failed = mill.client("provisioner", tally), threading.Event(), []
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        while not self.stopped.is_set():
            try:
                self.client.generate_data_key_without_plaintext(KeyId=ALIAS, KeySpec="AES_256")
            except botocore.exceptions.BotoCoreError as error:
                self.failed.append(error)
                return

    def __enter__(self) -> "Load":
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stopped.set()
        self.thread.join()
        assert not self.failed, self.failed


def minted(mill: Daemon, key: str, tally: Tally) -> bytes:
    return mill.client("provisioner", tally).generate_data_key_without_plaintext(KeyId=key, KeySpec="AES_256")["CiphertextBlob"]


def opens(mill: Daemon, blob: bytes, tally: Tally) -> bool:
    return len(mill.client("consumer", tally).decrypt(CiphertextBlob=blob)["Plaintext"]) == 32


def no_root_key(folder: Path, state: Path) -> None:
    """The root key is in no file of the backup, in neither form."""
    digits = (state / "root.key").read_text().split()[1]
    for file in folder.iterdir():
        found = file.read_bytes()
        assert bytes.fromhex(digits) not in found and digits.encode() not in found, file
        assert file.stat().st_mode & 0o077 == 0, file


def drill(mill: Daemon, tally: Tally, folder: Path) -> None:
    """The whole day."""
    admin = mill.client("admin", tally)
    key, _, _, _ = new_key(mill, "alias/before", tally)
    doomed, _, _, _ = new_key(mill, "alias/deleted-since", tally)
    blob = minted(mill, "alias/before", tally)
    assert mill.metric("keymill_backup_timestamp_seconds") == 0
    assert "none is known" in keymill("status", "--dir", mill.state).stdout
    backup = folder / "backup"
    began = time.time()
    with Load(mill, tally):
        made = answer("backup", "--endpoint", f"unix:{mill.socket}", "--out", backup)
        with_root = answer("backup", "--dir", mill.state, "--out", folder / "second")
        checked = answer("store", "check", "--endpoint", f"unix:{mill.socket}")
        status = answer("status", "--endpoint", f"unix:{mill.socket}")
    assert (made["verified_by"], with_root["verified_by"]) == ("daemon", "root key"), (made, with_root)
    assert status["ready"] is True and status["store"]["kind"] == "sqlite" and status["audit"]["writable"] is True, status
    assert status["per_second"]["requests"] > 1 and status["keys"]["by_state"]["Enabled"] == status["keys"]["count"], status
    assert status["backup"]["revision"] == with_root["revision"] and status["backup"]["age_seconds"] < 60, status
    assert any(lane["low_watermark"] <= lane["capacity"] for lane in status["lanes"]), status
    with urllib.request.urlopen(f"{admin_address(mill.facts)}/status", timeout=30) as told:
        assert set(json.load(told)) == set(status) - {"per_second"}
    assert made["has_root_key"] is False and made["kinds"]["key"] >= 3, made
    assert checked["whole"] is True and checked["records"] == made["records"], (checked, made)
    assert began - 1 <= mill.metric("keymill_backup_timestamp_seconds") <= time.time()
    no_root_key(backup, mill.state)
    assert answer("store", "check", backup, "--dir", mill.state)["digest"] == made["digest"]

    # A part of what happens after it. Nothing of a lane is promised, so blobs are of single calls.
    since, _, _, _ = new_key(mill, "alias/since", tally)
    lost = minted(mill, "alias/since", tally)
    admin.disable_key(KeyId=key)
    keymill("principal", "create", "since", "--endpoint", f"unix:{mill.socket}")
    before_restore = mill.metric("keymill_keystore_revision")
    assert opens(mill, lost, tally)
    # A store that a daemon has open is not replaced.
    said = keymill("restore", "--from", backup, "--dir", mill.state, "--yes", status=69).stderr
    assert "is in use by process" in said, said
    assert mill.stop() == 0
    keymill("status", "--dir", mill.state, status=69)

    # What is said before it asks; without a terminal to ask on, nothing is done.
    asked = keymill("restore", "--from", backup, "--dir", mill.state, status=64).stderr
    assert f"gone: key {since}" in asked and "gone: alias" in asked and "Say so with --yes" in asked, asked
    # The disaster.
    for file in mill.state.glob("keystore.db*"):
        file.unlink()
    try:
        mill.start()
        raise AssertionError("an empty store was made")
    except RuntimeError as refusal:
        assert "restore it from a backup" in str(refusal), refusal
    told = answer("restore", "--from", backup, "--dir", mill.state, "--yes")
    assert told["present"] == "absent" and told["kept"] is None and told["revision"] > before_restore, told

    mill.start()
    assert opens(mill, blob, tally), "a blob from before the backup"
    assert mill.client("admin", tally).describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Enabled"
    refused("NotFoundException", None, mill.client("admin", tally).describe_key, KeyId=since)
    refused("AccessDeniedException", NOT_ALLOWED_TO_OPEN, mill.client("consumer", tally).decrypt, CiphertextBlob=lost)
    assert mill.metric("keymill_backup_timestamp_seconds") >= began - 1
    # It goes on as a store does, and its audit log is whole.
    new_key(mill, "alias/afterwards", tally)
    mill.client("admin", tally).schedule_key_deletion(KeyId=doomed, PendingWindowInDays=7)
    assert mill.stop() == 0
    keymill("audit", "verify", "--dir", mill.state)

    # A restore over a store that is there: what it is told to take back is what it takes back.
    told = answer("restore", "--from", folder / "second", "--dir", mill.state, "--yes")
    assert told["present"] == "whole" and told["gone"]["key"] == 1 and told["changed"]["key"] == 1, told
    kept = Path(told["kept"])
    assert answer("store", "check", kept, "--dir", mill.state)["whole"] is True
    mill.start()
    refused("NotFoundException", None, mill.client("admin", tally).describe_key, KeyId="alias/afterwards")
    assert mill.client("admin", tally).describe_key(KeyId=doomed)["KeyMetadata"]["KeyState"] == "Enabled"
    assert mill.stop() == 0
    # The store that was replaced is not taken for the present one.
    shutil.copy(kept, mill.state / "keystore.db")
    said = keymill("store", "check", "--dir", mill.state, status=1).stdout
    assert "an older copy was put in its place" in said, said
    keymill("restore", "--from", backup, "--dir", mill.state, "--yes")


def damage(mill: Daemon, folder: Path) -> None:
    """Each damaged record is named, and a damaged store gets no backup."""
    store = mill.state / "keystore.db"
    whole = store.read_bytes()
    with contextlib.closing(sqlite3.connect(store)) as database, database:
        names = [name for (name,) in database.execute("SELECT id FROM record WHERE kind = 'key' ORDER BY id LIMIT 2")]
        for name in names:
            database.execute("UPDATE record SET body = zeroblob(length(body)) WHERE kind = 'key' AND id = ?", [name])
    found = answer("store", "check", "--dir", mill.state, status=1)
    assert found["finding_count"] == 2 and all(name in line for name, line in zip(names, found["findings"])), found
    said = keymill("backup", "--dir", mill.state, "--out", folder / "damaged", status=1).stderr
    assert "no backup of it is made" in said and not (folder / "damaged").exists(), said
    store.write_bytes(whole)
    for left in mill.state.glob("keystore.db-*"):
        left.unlink()
    assert answer("store", "check", "--dir", mill.state)["whole"] is True


def killed(arguments: list, moment: float) -> bool:
    """Whether the command was still running when it was killed."""
    process = subprocess.Popen([BINARY, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    try:
        process.wait(moment)
        return False
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True


def kills(mill: Daemon, tally: Tally, folder: Path) -> tuple[int, int]:
    """Backups and restores that are killed at many moments."""
    mill.start()
    policy = folder / "policy.json"
    policy.write_text(json.dumps(POLICY))
    for number in range(MANY_PRINCIPALS):
        keymill("principal", "create", f"many-{number}", "--policy", policy, "--endpoint", f"unix:{mill.socket}")
        tally.count()
    began = time.monotonic()
    answer("backup", "--endpoint", f"unix:{mill.socket}", "--out", folder / "large")
    lasts = time.monotonic() - began
    broken = 0
    for number in range(KILLS):
        out = folder / f"killed-{number}"
        if killed(["backup", "--endpoint", f"unix:{mill.socket}", "--out", out], lasts * (number + 1) / (KILLS + 1)):
            broken += 1
            if (out / "manifest.json").exists():
                assert answer("store", "check", out, "--dir", mill.state)["whole"] is True
            elif out.exists():
                said = keymill("restore", "--from", out, "--dir", mill.state, "--yes", status=69).stderr
                assert "in use" in said, said
                said = keymill("store", "check", out, "--dir", mill.state, status=2).stderr
                assert "is not a whole backup" in said, said
                # The same folder is taken again.
                answer("backup", "--endpoint", f"unix:{mill.socket}", "--out", out)
    new_key(mill, "alias/newest", tally)
    newest = mill.metric("keymill_keystore_revision")
    assert mill.stop() == 0
    began = time.monotonic()
    answer("restore", "--from", folder / "large", "--dir", mill.state, "--yes")
    lasts = time.monotonic() - began
    kept = max(mill.state.glob("keystore.db.before-restore-*"))
    assert newest_revision(kept) >= newest, "the store that was replaced is kept as it was"
    restores = 0
    for number in range(KILLS):
        if killed(["restore", "--from", folder / "large", "--dir", mill.state, "--yes"], lasts * (number + 1) / (KILLS + 1)):
            restores += 1
        found = answer("store", "check", "--dir", mill.state)
        assert found["whole"] is True and found["revision"] > newest, found
    assert kept.exists()
    # Whatever was broken off, a daemon starts, and the restore can be run again.
    answer("restore", "--from", folder / "large", "--dir", mill.state, "--yes")
    mill.start()
    refused("NotFoundException", None, mill.client("admin", tally).describe_key, KeyId="alias/newest")
    assert mill.stop() == 0
    return broken, restores


def newest_revision(store: Path) -> int:
    """The revision of the head, which is the highest."""
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as database:
        return database.execute("SELECT max(revision) FROM record").fetchone()[0]


def foreign(mill: Daemon, folder: Path) -> None:
    """Another user may not read the store, at the socket or through a principal's rights."""
    mill.start()
    if os.geteuid() == 0:
        # The build may be where only the daemon's user gets to.
        binary = shutil.copy(BINARY, folder / "keymill")
        os.chmod(mill.socket, 0o666)
        for way in (folder, mill.state, mill.state.parent):
            way.chmod(0o755)
        done = subprocess.run(
            [binary, "store", "check", "--endpoint", f"unix:{mill.socket}"],
            capture_output=True, text=True, env=environment(), user=FOREIGNER, group=FOREIGNER, extra_groups=[], check=False, timeout=60,
        )
        assert done.returncode == 2 and "AccessDeniedException" in done.stderr, done
    assert mill.stop() == 0


def main() -> None:
    tally = Tally()
    with running() as mill, tempfile.TemporaryDirectory(prefix="backups-") as name:
        folder = Path(name)
        drill(mill, tally, folder)
        damage(mill, folder)
        broken, restores = kills(mill, tally, folder)
        foreign(mill, folder)
    assert broken and restores, f"{broken} backups and {restores} restores were broken off"
    print(f"{broken} backups and {restores} restores were killed on their way")
    version = subprocess.run([BINARY, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    report("the backup drill", version, tally.calls)


if __name__ == "__main__":
    main()
