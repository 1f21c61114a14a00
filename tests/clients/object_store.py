"""Tables in an S3-compatible store, which is moto's server: `keymill provision`, `rewrap`, `census` and `verify` read them where they are."""

import contextlib
import gzip
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import boto3
import moto
import pyarrow
import pyarrow.csv
import pyarrow.parquet
from daemon import ALIAS, BINARY, Tally, environment, report, running
from provision import check, command, containers, done, fails, open_some, read, run

ROWS = 60_000
BUCKET = "lake"


@contextlib.contextmanager
def store():
    """A server on a port of its own."""
    command = [sys.executable, "-u", "-m", "moto.server", "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            for line in server.stdout:
                if "Running on http://" in line:
                    # It says a line for each request, and would wait for a reader.
                    threading.Thread(target=server.stdout.read, daemon=True).start()
                    yield line.split("Running on ")[1].split()[0]
                    return
            raise RuntimeError("moto's server did not start")
        finally:
            server.kill()


def main() -> None:
    tally = Tally()
    with running() as mill, store() as endpoint, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        keys = {"AWS_ACCESS_KEY_ID": "store", "AWS_SECRET_ACCESS_KEY": "store", "AWS_REGION": "us-east-1"}
        variables = keys | {"AWS_ENDPOINT_URL_S3": endpoint}
        s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="store", aws_secret_access_key="store")
        s3.meta.events.register("after-call.s3", tally.count)
        s3.create_bucket(Bucket=BUCKET)
        sent = containers(ROWS)
        for number in range(3):
            part = sent.slice(number * 20_000, 20_000)
            pyarrow.parquet.write_table(part, folder / "part.parquet", row_group_size=7_000)
            s3.upload_file(str(folder / "part.parquet"), BUCKET, f"volumes/day={number}/part.parquet")
        s3.put_object(Bucket=BUCKET, Key="volumes/_SUCCESS", Body=b"")
        over = ["--endpoint", f"unix:{mill.socket}", "--rows-per-part", "13000"]
        arn = mill.client("consumer").describe_key(KeyId=ALIAS)["KeyMetadata"]["Arn"]
        for number, name in enumerate((f"s3://{BUCKET}/volumes/", f"s3://{BUCKET}/volumes/*/*.parquet", f"s3://{BUCKET}/volumes")):
            out = folder / f"out-{number}"
            # Their folders are columns, by default.
            more, folders = ([], {f"day={day}" for day in range(3)}) if number < 2 else (["--no-hive"], {"."})
            done(command([name], out, *over, *more), **variables)
            table = check(out, sent, arn)
            assert {str(part.relative_to(out).parent) for part in out.rglob("*.parquet")} == folders, out
        open_some(mill, table, tally, 50)

        # Text, in more than one block of what is read at a time.
        text = sent.select(["volume", "tenant"]).set_column(1, "tenant", sent["tenant"].cast(pyarrow.string()))
        text = text.append_column("note", pyarrow.array([f"{number:0150}" for number in range(ROWS)]))
        pyarrow.csv.write_csv(text, folder / "volumes.csv")
        s3.upload_file(str(folder / "volumes.csv"), BUCKET, "volumes.csv")
        done(command([f"s3://{BUCKET}/volumes.csv"], folder / "csv", *over), **variables)
        check(folder / "csv", text, arn)

        body = gzip.compress((folder / "volumes.csv").read_bytes(), 1)
        s3.put_object(Bucket=BUCKET, Key="volumes.csv.gz", Body=body, ContentEncoding="gzip")
        done(command([f"s3://{BUCKET}/volumes.csv.gz"], folder / "gzip", *over), **variables)
        check(folder / "gzip", text, arn)
        s3.put_object(Bucket=BUCKET, Key="cut.csv.gz", Body=body[:-5])
        fails(1, f"s3://{BUCKET}/cut.csv.gz cannot be read as CSV: its gzip data are damaged or cut", command([f"s3://{BUCKET}/cut.csv.gz"], folder / "cut", *over), **variables)

        # Keys of any characters, as they are: by themselves, below a prefix, and by a pattern.
        for name in ("odd/größe %1#~[2.csv", "odd/p%3D1/{a}.csv"):
            s3.put_object(Bucket=BUCKET, Key=name, Body=f"volume,tenant\n{name[-6:-4]},t\n".encode())
        for number, (name, rows) in enumerate(((f"s3://{BUCKET}/odd/", 2), (f"s3://{BUCKET}/odd/p%3D1/", 1), (f"s3://{BUCKET}/odd/größe*", 1))):
            said = done(command([name], folder / f"odd-{number}", *over), **variables)
            assert said["rows"] == rows, (name, said)

        # An object that is called as a pattern is, folders as consoles make them, and odd keys.
        for name, body in (("marked/", b""), ("marked/sub/", b""), ("marked/[1]*.csv", b"volume,tenant\na,t\n"), ("lake/_delta_log/0.json", b"{}"), ("lake/tenant=a/x.csv", b"volume\nv\n"), ("twice//x.csv", b"")):
            s3.put_object(Bucket=BUCKET, Key=name, Body=body)
        for number, name in enumerate(("marked/[1]*.csv", "marked/", "marked/*")):
            said = done(command([f"s3://{BUCKET}/{name}"], folder / f"marked-{number}", *over, "--input-format", "csv"), **variables)
            assert said["rows"] == 1, (name, said)
        for name in ("lake", "lake/tenant=a/", "lake/*/*.csv", "lake/tenant=a/*.csv"):
            fails(1, f"s3://{BUCKET}/lake: it is a Delta Lake table", command([f"s3://{BUCKET}/{name}"], folder / "lake", *over), **variables)
        assert done(command([f"s3://{BUCKET}/lake/tenant=a/x.csv"], folder / "live", *over), **variables)["rows"] == 1
        fails(1, f"s3://{BUCKET}/twice//x.csv: a key that begins with a slash, or has an empty part", command([f"s3://{BUCKET}/twice/"], folder / "twice", *over), **variables)
        fails(1, "cannot read s3://no-such-bucket/x.csv: NoSuchBucket: The specified bucket does not exist", command(["s3://no-such-bucket/x.csv"], folder / "bucket", *over), **variables)

        # What has changed since is not gone on with.
        job = command([f"s3://{BUCKET}/volumes.csv"], folder / "changed", *over)
        with subprocess.Popen([str(part) for part in job], env=environment(**variables), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while not list((folder / "changed").glob("*.parquet")):
                time.sleep(0.005)
            process.kill()
        if len(list((folder / "changed").glob("*.parquet"))) < 5:
            s3.put_object(Bucket=BUCKET, Key="volumes.csv", Body=(folder / "volumes.csv").read_bytes() + b"one,more,x\n")
            fails(1, f"s3://{BUCKET}/volumes.csv has changed since this job began", job, **variables)

        for part in (folder / "out-0").rglob("*.parquet"):
            s3.upload_file(str(part), BUCKET, f"keys/{part.name}")
            s3.upload_file(str(part), BUCKET, f"hive/{part.relative_to(folder / 'out-0')}")
        # A context that is in keys, percent-encoded or not.
        for number, name in enumerate(("tenant=a%20b%2Fc/zone=ü", "tenant=100%/zone=z y")):
            s3.put_object(Bucket=BUCKET, Key=f"in-keys/{name}/x.csv", Body=f"volume\nv{number}\n".encode())
        done(command([f"s3://{BUCKET}/in-keys"], folder / "in-keys", *over), **variables)
        rows = {row["volume"]: dict(row["encryption_context"])["tenant"] for row in read(folder / "in-keys").to_pylist()}
        assert rows == {"v0": "a b/c", "v1": "100%"}, rows
        assert (folder / "in-keys" / "tenant=a%20b%2Fc" / "zone=ü").is_dir()
        counted = run([BINARY, "census", f"s3://{BUCKET}/keys/", "--json"], **variables)
        assert counted.returncode == 0 and json.loads(counted.stdout)["keys"][0]["count"] == ROWS, counted
        fails(1, "there is no such file", command([f"s3://{BUCKET}/none/"], folder / "none", *over), **variables)
        assert mill.stop() == 0
        verified = run([BINARY, "verify", f"s3://{BUCKET}/keys/*.parquet", "--dir", str(mill.state), "--json"], **variables)
        assert verified.returncode == 0 and json.loads(verified.stdout)["rows"] == ROWS, verified
        said = done([BINARY, "rewrap", f"s3://{BUCKET}/keys", "--dir", str(mill.state), "--key", ALIAS, "--out", folder / "rewrapped", "--json"], **variables)
        assert said["rows"] == ROWS, said
        said = done([BINARY, "rewrap", f"s3://{BUCKET}/hive", "--dir", str(mill.state), "--key", ALIAS, "--out", folder / "hive", "--json"], **variables)
        assert said["rows"] == ROWS and {part.name for part in (folder / "hive").iterdir() if part.is_dir()} == {"day=0", "day=1", "day=2"}, said
    report("S3 of moto", moto.__version__, tally.calls)


if __name__ == "__main__":
    main()
