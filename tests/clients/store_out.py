"""Jobs that write to an S3-compatible store, which is moto's server: `export`, `provision` and `rewrap` with `--out s3://…`.

What is written is what a job on this machine writes; killed, a job goes on where it was; of two jobs on one prefix one is refused.

    python3 tests/clients/store_out.py
"""

import json
import random
import subprocess
import tempfile
import time
from pathlib import Path

import boto3
import moto
import polars
import pyarrow
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet
from daemon import ALIAS, BINARY, Tally, environment, report, running
from object_store import BUCKET, store
from provision import check, command, containers, done, fails, open_some, read, run

ROWS = 40_000
# What a lock without a sign of life is waited for.
SILENT_SECONDS = 20
KEYS = {"AWS_ACCESS_KEY_ID": "store", "AWS_SECRET_ACCESS_KEY": "store", "AWS_REGION": "us-east-1"}


class Lake:
    """The bucket, as another program sees it."""

    def __init__(self, endpoint: str, tally: Tally):
        self.endpoint = endpoint
        self.variables = KEYS | {"AWS_ENDPOINT_URL_S3": endpoint}
        self.s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="store", aws_secret_access_key="store")
        self.s3.meta.events.register("after-call.s3", tally.count)
        self.s3.create_bucket(Bucket=BUCKET)

    def names(self, prefix: str) -> dict[str, str]:
        """The files below a prefix, and the tag of each."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
        return {entry["Key"].removeprefix(f"{prefix}/"): entry["ETag"] for page in pages for entry in page.get("Contents", [])}

    def uploads(self) -> list:
        return self.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])

    def download(self, prefix: str, folder: Path) -> Path:
        for name in self.names(prefix):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            self.s3.download_file(BUCKET, f"{prefix}/{name}", str(folder / name))
        return folder

    def readers_agree(self, prefix: str, rows: int) -> None:
        """Three readers read the prefix where it is."""
        place = self.endpoint.removeprefix("http://")
        files = pyarrow.fs.S3FileSystem(access_key="store", secret_key="store", endpoint_override=place, scheme="http", region="us-east-1")
        table = pyarrow.dataset.dataset(f"{BUCKET}/{prefix}", filesystem=files, format="parquet").to_table(columns=["ciphertext_blob"])
        assert table.num_rows == rows, (prefix, table.num_rows)
        options = {"aws_access_key_id": "store", "aws_secret_access_key": "store", "aws_region": "us-east-1", "aws_endpoint_url": self.endpoint, "aws_allow_http": "true"}
        frame = polars.scan_parquet(f"s3://{BUCKET}/{prefix}/**/*.parquet", storage_options=options)
        assert frame.select(polars.col("ciphertext_blob").n_unique()).collect().item() == rows, prefix


def without_times(table: pyarrow.Table) -> pyarrow.Table:
    return table.drop(["ciphertext_blob", "created_at"])


def killed(lake: Lake, job: list, prefix: str, kills: int) -> None:
    """Kill -9 in the midst; then the same command goes on, and no part that stands is made again."""
    standing: dict[str, str] = {}
    for _ in range(kills):
        with subprocess.Popen([str(part) for part in job], env=environment(**lake.variables), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            until = time.monotonic() + SILENT_SECONDS + 60
            while len([name for name in lake.names(prefix) if name.endswith(".parquet")]) < len(standing) + 2:
                assert process.poll() is None and time.monotonic() < until, "the job has ended by itself"
                time.sleep(0.01)
            time.sleep(random.uniform(0, 0.05))
            process.kill()
        assert "_lock" in lake.names(prefix)
        now = {name: tag for name, tag in lake.names(prefix).items() if name.endswith(".parquet")}
        assert standing.items() <= now.items(), "a part was made again"
        standing = now
    ran = run(job, **lake.variables)
    assert ran.returncode == 0 and "took over the lock" in ran.stderr, ran
    now = lake.names(prefix)
    assert standing.items() <= now.items() and "_lock" not in now and not lake.uploads(), now


def main() -> None:
    tally = Tally()
    with running() as mill, store() as endpoint, tempfile.TemporaryDirectory() as temporary:
        folder, lake = Path(temporary), Lake(endpoint, tally)
        arn = mill.client("consumer").describe_key(KeyId=ALIAS)["KeyMetadata"]["Arn"]
        at = ["--endpoint", f"unix:{mill.socket}"]
        out = lambda prefix: f"s3://{BUCKET}/{prefix}"

        # As a job on this machine.
        export = [BINARY, "export", "--key", ALIAS, "--count", str(ROWS), "--rows-per-part", "15000", "--json", *at, "--out"]
        said = done([*export, out("made/here ü")], **lake.variables)
        assert said["parts"] == 3 and said["out"] == out("made/here ü"), said
        done([*export, out("made/here ü")], "found finished", **lake.variables)
        done([*export, folder / "made"])
        here, there = read(folder / "made"), read(lake.download("made/here ü", folder / "downloaded"))
        assert without_times(here).equals(without_times(there)) and here.num_rows == ROWS

        # Parts of several chunks, from a table in the store, in its folders.
        sent = containers(ROWS)
        wide = sent.append_column("payload", pyarrow.array([random.randbytes(600) for _ in range(ROWS)]))
        for day in range(2):
            pyarrow.parquet.write_table(wide.slice(day * ROWS // 2, ROWS // 2), folder / "part.parquet", row_group_size=1000, compression="none")
            lake.s3.upload_file(str(folder / "part.parquet"), BUCKET, f"volumes/day={day}/part.parquet")
        done(command([out("volumes")], out("provisioned"), *at), **lake.variables)
        assert {name for name in lake.names("provisioned") if "day=" not in name} == {"_manifest.json"}, lake.names("provisioned")
        assert not lake.uploads()
        table = check(lake.download("provisioned", folder / "provisioned"), wide, arn)
        open_some(mill, table, tally, 30)
        lake.readers_agree("provisioned", ROWS)
        ran = run([BINARY, "verify", out("provisioned"), "--endpoint", mill.endpoint, "--json"], **lake.variables | mill.credentials("consumer") | {"AWS_ENDPOINT_URL_S3": endpoint})
        assert ran.returncode == 0 and json.loads(ran.stdout)["rows"] == ROWS, ran

        # Standard input, and rows that are left out.
        text = "volume,tenant\n" + "".join(f"v{number},t\n" if number % 100 else ",t\n" for number in range(3000))
        job = command(["-"], out("input"), *at, "--input-format", "csv", "--on-error", "skip")
        ran = subprocess.run(job, env=environment(**lake.variables), input=text, capture_output=True, text=True, check=False)
        assert ran.returncode == 0 and json.loads(ran.stdout)["rows_left_out"] == 30, ran
        assert set(lake.names("input")) == {"_manifest.json", "_rejects.ndjson", "part-00000.parquet"}, lake.names("input")

        # Killed: small parts, and such as have several chunks.
        killed(lake, command([out("volumes")], out("killed"), *at, "--rows-per-part", "1500", "--workers", "2"), "killed", 2)
        check(lake.download("killed", folder / "killed"), wide, arn)
        of_parts = lambda rows, *more: [BINARY, "export", "--key", ALIAS, "--count", str(ROWS), "--rows-per-part", str(rows), "--workers", "1", "--json", *at, *more]
        killed(lake, of_parts(9000, "--number-of-bytes", "1000", "--out", out("killed-export")), "killed-export", 1)
        assert read(lake.download("killed-export", folder / "killed-export")).num_rows == ROWS

        # Of two jobs on one prefix one is refused; one that was stopped leaves no lock.
        job = of_parts(50, "--out", out("two"))
        with subprocess.Popen([str(part) for part in job], env=environment(**lake.variables), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            while "_manifest.json" not in lake.names("two"):
                time.sleep(0.01)
            fails(69, f"{out('two')} is in use by another job (process {process.pid} of ", job, **lake.variables)
            process.terminate()
            process.communicate(timeout=60)
        assert "_lock" not in lake.names("two")
        ran = run(job, **lake.variables)
        assert ran.returncode == 0 and "sign of life" not in ran.stderr, ran
        fails(1, "the folder holds a job with rows per part 50, not 60", of_parts(60, "--out", out("two")), **lake.variables)

        # Refused before the first key.
        before = mill.metric("keymill_data_keys_total")
        fails(1, "is not part of a job", [*export, out("volumes")], **lake.variables)
        fails(1, "cannot list s3://nowhere/x: NoSuchBucket: The specified bucket does not exist", [*export, "s3://nowhere/x"], **lake.variables)
        for name in ("gs://lake/x", "file:///tmp/x", "az://lake/x"):
            fails(64, f"{name} is not a place that parts are written to", [*export, name])
        fails(1, f"{out('volumes')}: the folder for parts is inside it", command([out("volumes")], out("volumes/out"), *at), **lake.variables)
        assert mill.metric("keymill_data_keys_total") == before, "a key was made for a job that was refused"

        # On the store of the daemon that has ended.
        assert mill.stop() == 0
        rewrap = [BINARY, "rewrap", out("provisioned"), "--dir", mill.state, "--key", ALIAS, "--json", "--out", out("rewrapped")]
        said = done(rewrap, **lake.variables)
        after = read(lake.download("rewrapped", folder / "rewrapped"))
        assert without_times(after).equals(without_times(table)) and said["rows"] == ROWS
        assert {name for name in lake.names("rewrapped") if "day=" not in name} == {"_manifest.json"}
    report("moto's S3 as the place of parts", moto.__version__, tally.calls)


if __name__ == "__main__":
    main()
