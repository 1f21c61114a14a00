"""`keymill export --endpoint` where the store cannot be read: another uid, through a socket of its own and over HTTP, with one permission.

As root the export runs as another user. Otherwise the store's folder is closed (mode 0000) once the daemon has it open, and the export runs as the
same user: either way the store is out of its reach, which is shown first.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow
import pyarrow.compute
import pyarrow.dataset
from container_list import check_manifest, check_schema
from daemon import ALIAS, BINARY, BLOB_BYTES, Daemon, environment, refused, report, running

FOREIGNER = 12345
NAME = "exporter"
ROWS = 50_000
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kms:GenerateDataKeyWithoutPlaintext", "Resource": "*"}]}
CONTEXT = {"tenant": "foreign"}


class Foreigner:
    """Runs programs as somebody who cannot read the store, in a folder of his own."""

    def __init__(self, folder: Path, mill: Daemon):
        self.home = folder / "home"
        self.home.mkdir()
        self.user = {}
        if os.geteuid() == 0:
            self.user = {"user": FOREIGNER, "group": FOREIGNER, "extra_groups": []}
            os.chown(self.home, FOREIGNER, FOREIGNER)
        else:
            mill.state.chmod(0o000)
        # The build may stand where only the daemon's user gets to.
        self.binary = shutil.copy(BINARY, folder / "keymill")

    def run(self, *command: str | Path, **variables: str) -> tuple[int, str]:
        """The status of a program, and what it has told."""
        with subprocess.Popen(
            command, **self.user, cwd=self.home, env=environment(**variables), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        ) as process:
            told = process.communicate()[1]
        return process.returncode, told

    def export(self, *source: str | Path, out: str, **variables: str) -> tuple[int, str]:
        context = [argument for name, value in CONTEXT.items() for argument in ("--constant", f"{name}={value}")]
        return self.run(self.binary, "export", "--key", ALIAS, "--count", str(ROWS), "--out", out, *context, *source, **variables)


def create(mill: Daemon, folder: Path) -> dict:
    """Makes the principal of the export, as the operator."""
    policy = folder / "exporter.json"
    policy.write_text(json.dumps(POLICY))
    command = [BINARY, "principal", "create", NAME, "--policy", policy, "--dir", mill.state, "--json"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def store_is_out_of_reach(foreigner: Foreigner, mill: Daemon) -> None:
    for file in ("keymill.toml", "keystore.db", "root.key"):
        status, told = foreigner.run("cat", mill.state / file)
        assert status != 0 and "Permission denied" in told, f"{file} could be read: {told}"
    status, told = foreigner.export("--dir", mill.state, out="beside")
    assert status == 78, (status, told)
    says = f"{mill.state}/keymill.toml: Permission denied (os error 13): a store is for the user it belongs to; others go through its daemon with --endpoint"
    assert says in told and len(told.splitlines()) == 1, told
    status, told = foreigner.export("--endpoint", f"unix:{mill.socket}", out="beside")
    assert status == 69 and "Permission denied" in told, (status, told)
    assert not (foreigner.home / "beside").exists() or not list((foreigner.home / "beside").glob("*.parquet")), "something was exported"


def has_one_permission(mill: Daemon, credentials: dict[str, str]) -> None:
    client = mill.client("provisioner", **credentials)
    refused("AccessDeniedException", None, client.describe_key, KeyId=ALIAS)
    refused("AccessDeniedException", None, client.generate_data_key, KeyId=ALIAS, KeySpec="AES_256")
    blob = client.generate_data_key_without_plaintext(KeyId=ALIAS, KeySpec="AES_256")["CiphertextBlob"]
    refused("AccessDeniedException", None, client.decrypt, CiphertextBlob=blob)


def read(mill: Daemon, out: Path) -> pyarrow.ChunkedArray:
    """What was exported, after a look at it."""
    check_schema(out)
    check_manifest(out, ROWS)
    table = pyarrow.dataset.dataset(out, format="parquet").to_table()
    blobs = table["ciphertext_blob"]
    assert pyarrow.compute.unique(pyarrow.compute.binary_length(blobs)).to_pylist() == [BLOB_BYTES]
    consumer = mill.client("consumer")
    for row in table.slice(0, 5).to_pylist():
        assert row["encryption_context"] == list(CONTEXT.items()), row
        assert len(consumer.decrypt(CiphertextBlob=row["ciphertext_blob"], EncryptionContext=CONTEXT)["Plaintext"]) == 32
    return blobs


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="keymill-foreign-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        settings = f"""
[sockets.exports]
path = "{folder}/exports.sock"
mode = "0666"
principal = "arn:aws:iam::111122223333:user/{NAME}"
"""
        with running(settings=settings) as mill:
            made = create(mill, folder)
            keys = {"access_key_id": made["AccessKeyId"], "secret_access_key": made["SecretAccessKey"]}
            signs = {"AWS_ACCESS_KEY_ID": keys["access_key_id"], "AWS_SECRET_ACCESS_KEY": keys["secret_access_key"], "AWS_REGION": mill.facts["region"]}
            has_one_permission(mill, keys)
            foreigner = Foreigner(folder, mill)
            try:
                store_is_out_of_reach(foreigner, mill)
                blobs = []
                for out, endpoint, variables in (("socket", f"unix:{folder}/exports.sock", {}), ("http", mill.endpoint, signs)):
                    status, told = foreigner.export("--endpoint", endpoint, out=out, **variables)
                    assert status == 0, (status, told)
                    blobs += read(mill, foreigner.home / out).chunks
                assert pyarrow.compute.count_distinct(pyarrow.chunked_array(blobs)).as_py() == 2 * ROWS, "a blob came twice"
            finally:
                mill.state.chmod(0o700)
    version = subprocess.run([BINARY, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    report("keymill export as a foreign uid", version, len(("socket", "http")))


if __name__ == "__main__":
    main()
