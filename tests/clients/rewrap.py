"""After a rotation and to another key: `keymill rewrap`, `census` and `verify` on what `provision` wrote, through the daemon and on its store.

    python3 tests/clients/rewrap.py
"""

import json
import random
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import boto3
import pyarrow
import pyarrow.compute
import pyarrow.parquet
from daemon import ALIAS, BINARY, Daemon, Tally, environment, new_key, refused, report, running
from provision import command, containers, done, fails, open_some, read, run

ROWS = 12_000
NEW = ["key_arn", "key_material_id", "encryption_context", "ciphertext_blob", "created_at"]


def printed(arguments: list, status: int = 0, **variables: str) -> dict:
    ran = run([*arguments, "--json"], **variables)
    assert ran.returncode == status, f"{arguments}: {ran.returncode}: {ran.stderr}"
    return json.loads(ran.stdout)


def census(out: Path) -> dict[tuple[str, int], int]:
    said = printed([BINARY, "census", out])
    assert all(group["data_key_bytes"] == 32 for group in said["keys"]) and not said["finding_count"], said
    return {(group["key_id"], group["generation"]): group["count"] for group in said["keys"]}


def rewrapped(before: Path, after: Path) -> pyarrow.Table:
    """Every column but those that are made anew is as it was."""
    old, new = read(before), read(after)
    kept = [name for name in old.column_names if name not in NEW]
    assert new.column_names == old.column_names and new.num_rows == old.num_rows, new.column_names
    for name in kept:
        assert new[name].combine_chunks().equals(old[name].combine_chunks()), name
    both = pyarrow.chunked_array(old["ciphertext_blob"].chunks + new["ciphertext_blob"].chunks)
    assert pyarrow.compute.count_distinct(both).as_py() == 2 * old.num_rows, "a blob was taken over"
    return new


def same_keys(mill: Daemon, before: Path, after: pyarrow.Table, tally: Tally) -> None:
    """A data key is the same before and after."""
    admin, old = mill.client("admin", tally), read(before)
    for at in random.sample(range(old.num_rows), 50):
        plaintexts = set()
        for table in (old, after):
            row = table.select(["ciphertext_blob", "encryption_context"]).slice(at, 1).to_pylist()[0]
            opened = admin.decrypt(CiphertextBlob=row["ciphertext_blob"], EncryptionContext=dict(row["encryption_context"]))
            plaintexts.add(opened["Plaintext"])
        assert len(plaintexts) == 1, f"row {at} has another data key"


def after_a_rotation(mill: Daemon, folder: Path, tally: Tally) -> None:
    """Through the daemon: who may re-encrypt moves all rows to the new generation, and nobody sees a key."""
    admin = mill.client("admin", tally)
    key = admin.describe_key(KeyId=ALIAS)["KeyMetadata"]["KeyId"]
    over = ["--endpoint", mill.endpoint]
    verify = [BINARY, "verify", folder / "first", *over, "--id-column", "volume"]
    as_admin = mill.credentials("admin")
    assert census(folder / "first") == {(key, 1): ROWS}
    said = printed(verify, **as_admin)
    assert said["rows"] == ROWS and said["finding_count"] == 0 and said["keys"][0]["count"] == ROWS, said
    # A dry call finds that, and the table is not looked through.
    fails(2, "row 1: AccessDeniedException: The ciphertext refers to", verify, **mill.credentials("provisioner"))
    few_rows(mill, folder, over)
    stopped(mill, folder, over)
    admin.rotate_key_on_demand(KeyId=key)
    rewrap = [BINARY, "rewrap", folder / "first", *over, "--key", ALIAS, "--json", "--rows-per-part", "2000", "--out"]
    for key_named, says in ((ALIAS, "row 1: AccessDeniedException: "), ("alias/nobody", "row 1: NotFoundException: ")):
        denied = [argument if argument != ALIAS else key_named for argument in rewrap]
        fails(1, says, [*denied, folder / "denied"], **mill.credentials("provisioner" if key_named == ALIAS else "admin"))
        assert not list((folder / "denied").glob("*.parquet"))
    rewrap.append(folder / "second")
    # Killed and resumed: no part that stands is made again.
    with subprocess.Popen([str(part) for part in rewrap], env=environment(**as_admin), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as job:
        while len(list((folder / "second").glob("*.parquet"))) < 2:
            time.sleep(0.005)
        job.kill()
    standing = {part: part.read_bytes() for part in (folder / "second").glob("*.parquet")}
    done(rewrap, **as_admin)
    assert all(part.read_bytes() == content for part, content in standing.items()), "a part was made again"
    done(rewrap, "found finished", **as_admin)
    assert census(folder / "second") == {(key, 2): ROWS}
    far_row(folder, over, as_admin)
    new = rewrapped(folder / "first", folder / "second")
    same_keys(mill, folder / "first", new, tally)
    open_some(mill, new, tally)


def few_rows(mill: Daemon, folder: Path, over: list) -> None:
    """A caller without the right, a wrong store and a disabled key are one refusal, however few rows there are, and not a finding for each."""
    whole = pyarrow.parquet.read_table(folder / "first")
    for rows in (1, 2):
        (folder / f"few-{rows}").mkdir()
        for number in range(3):
            pyarrow.parquet.write_table(whole.slice(number * rows, rows), folder / f"few-{rows}" / f"{number}.parquet")
        first = folder / f"few-{rows}" / "0.parquet"
        for table in (first, folder / f"few-{rows}"):
            says = f"{first}, row 1: AccessDeniedException: The ciphertext refers to"
            fails(2, says, [BINARY, "verify", table, *over], **mill.credentials("provisioner"))


def stopped(mill: Daemon, folder: Path, over: list) -> None:
    """SIGINT ends a look at a table in its midst: it says how far it was, with status 130."""
    files = [next((folder / "first").glob("*.parquet"))] * 4000
    for step in (["census", *files], ["verify", *files, *over]):
        command = [str(part) for part in (BINARY, *step, "--json")]
        with subprocess.Popen(command, env=environment(**mill.credentials("admin")), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as look:
            while not catches(look.pid, signal.SIGINT):
                assert look.poll() is None, look.communicate()
                time.sleep(0.002)
            time.sleep(0.2)
            look.send_signal(signal.SIGINT)
            began = time.monotonic()
            printed_, said = look.communicate(timeout=60)
        assert look.returncode == 130 and not printed_, (step[0], look.returncode, printed_, said)
        assert re.search(r'"message":"stopped after \d+ rows?, 0 findings so far: the rest was not looked at"', said), said
        # Well before it would have been ended in any case.
        assert time.monotonic() - began < 15 and "stopped at once" not in said, said


def catches(pid: int, number: int) -> bool:
    """Whether the process has a handler of its own for a signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) & 1 << number - 1)


def far_row(folder: Path, over: list, as_admin: dict) -> None:
    """A row far behind the first of a call, whose answer is under way already, is named as the first would be."""
    whole = read(folder / "second")
    for row in (0, 4_321, ROWS - 1):
        blobs = whole["ciphertext_blob"].to_pylist()
        blobs[row] = blobs[row][:60] + bytes([blobs[row][60] ^ 1]) + blobs[row][61:]
        damaged = whole.set_column(whole.column_names.index("ciphertext_blob"), "ciphertext_blob", pyarrow.array(blobs, pyarrow.binary()))
        path = folder / f"far-{row}.parquet"
        pyarrow.parquet.write_table(damaged, path)
        rewrap = [BINARY, "rewrap", path, *over, "--key", ALIAS, "--json", "--out", folder / f"far-{row}"]
        fails(1, f"{path}, row {row + 1}: InvalidCiphertextException; no part was finished", rewrap, **as_admin)


def to_another_key(mill: Daemon, folder: Path, tally: Tally) -> None:
    """On the store: another key, and a context with one more column and without the constant."""
    key, arn, alias, _ = new_key(mill, "alias/newer", tally)
    assert mill.stop() == 0
    beside = ["--dir", mill.state]
    rewrap = [BINARY, "rewrap", folder / "second", *beside, "--key", alias, "--new-context", "tenant,volume,zone_name", "--out", folder / "third", "--json"]
    fails(1, 'There is no column "zone_name"', rewrap)
    rewrap[rewrap.index("tenant,volume,zone_name")] = "tenant,container_id"
    done(rewrap)
    assert census(folder / "third") == {(key, 1): ROWS}
    for context in ([], ["--context", "tenant,container_id"]):
        said = printed([BINARY, "verify", folder / "third", *beside, *context])
        assert said["rows"] == ROWS and said["finding_count"] == 0, said
    wrong = printed([BINARY, "verify", folder / "third", *beside, "--context", "tenant"], 1)
    assert wrong["finding_count"] == ROWS and "does not open" in wrong["findings"][0], wrong
    findings(mill, folder, beside)
    # Another store has none of these keys.
    with running() as other:
        assert other.stop() == 0
        says = f"row 1: NotFoundException: there is no key {key}; it was tried before all others"
        fails(2, says, [BINARY, "verify", folder / "third", "--dir", other.state])
    mill.start()
    mill.client("admin", tally).disable_key(KeyId=key)
    assert mill.stop() == 0
    fails(2, "row 1: KMSInvalidStateException: ", [BINARY, "verify", folder / "third", *beside])
    mill.start()
    mill.client("admin", tally).enable_key(KeyId=key)
    new = rewrapped(folder / "second", folder / "third")
    assert set(new["key_arn"].to_pylist()) == {arn}
    same_keys(mill, folder / "second", new, tally)
    row = new.select(["ciphertext_blob", "tenant", "volume"]).slice(5, 1).to_pylist()[0]
    consumer = mill.client("consumer", tally)
    context = {"tenant": row["tenant"], "container_id": row["volume"]}
    assert len(consumer.decrypt(CiphertextBlob=row["ciphertext_blob"], EncryptionContext=context)["Plaintext"]) == 32
    refused("InvalidCiphertextException", "", consumer.decrypt, CiphertextBlob=row["ciphertext_blob"], EncryptionContext=context | {"purpose": "x"})
    log = [json.loads(line) for file in (mill.state / "audit").glob("*.jsonl") for line in file.read_bytes().splitlines()]
    names = [record.get("eventName") for record in log]
    assert {"Rewrap", "Verify", "VerifyBlobs"} <= set(names), set(names)
    assert names.count("ReEncrypt") < 10 and names.count("Rewrap") < ROWS / 100, "a call for each row"


def findings(mill: Daemon, folder: Path, beside: list) -> None:
    """What is wrong is found wherever it is, with file and row."""
    rows = read(folder / "third").slice(0, 1000)
    (folder / "wrong").mkdir()
    one, other = rows.slice(0, 500), rows.slice(500)
    blobs = one["ciphertext_blob"].to_pylist()
    blobs[7] = blobs[7][:60] + bytes([blobs[7][60] ^ 1]) + blobs[7][61:]
    blobs[8] = b"no blob"
    blobs[9] = None
    unknown = bytearray(blobs[10])
    unknown[5] ^= 1
    blobs[10] = bytes(unknown)
    at = one.column_names.index("ciphertext_blob")
    one = one.set_column(at, "ciphertext_blob", pyarrow.array(blobs, pyarrow.binary()))
    other = pyarrow.concat_tables([other, rows.slice(20, 1)])
    pyarrow.parquet.write_table(one, folder / "wrong" / "a.parquet")
    pyarrow.parquet.write_table(other, folder / "wrong" / "b.parquet")
    said = printed([BINARY, "verify", folder / "wrong", *beside, "--id-column", "volume"], 1)
    a, b = folder / "wrong" / "a.parquet", folder / "wrong" / "b.parquet"
    assert said["rows"] == 1001 and said["finding_count"] == 6, said
    expected = [
        f"{a}, row 8: the ciphertext blob does not open", f"{a}, row 9: it is not a ciphertext blob", f"{a}, row 10: its blob is null", f"{a}, row 11: there is no key ",
        f"{b}, row 501: its blob is that of {a}, row 21", f"{b}, row 501: its id is that of {a}, row 21",
    ]
    for found, start in zip(said["findings"], expected, strict=True):
        assert found.startswith(start), (found, start)
    counted = printed([BINARY, "census", folder / "wrong"], 1)
    assert counted["finding_count"] == 1 and counted["without_blob"] == 1 and sum(group["count"] for group in counted["keys"]) == 999, counted
    fails(1, "row 10: its blob is null", [BINARY, "rewrap", a, *beside, "--key", ALIAS, "--out", folder / "refused", "--json"])
    (folder / "t.csv").write_text("ciphertext_blob\nx\n")
    fails(2, "it is CSV; census, rewrap and verify read Parquet", [BINARY, "census", folder / "t.csv"])


def main() -> None:
    tally = Tally()
    with running() as mill, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pyarrow.parquet.write_table(containers(ROWS), folder / "table.parquet", row_group_size=3_500)
        done(command([folder / "table.parquet"], folder / "first", "--endpoint", f"unix:{mill.socket}", "--rows-per-part", "5000"))
        after_a_rotation(mill, folder, tally)
        to_another_key(mill, folder, tally)
    report("boto3 on rewrapped rows", boto3.__version__, tally.calls)


if __name__ == "__main__":
    main()
