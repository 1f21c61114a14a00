"""The AWS CLI against a running daemon, as its users call it: credentials, region and endpoint from the environment."""

import base64
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from daemon import ALIAS, BLOB_BYTES, NOT_ALLOWED_TO_OPEN, Daemon, environment, report, running

AWS = Path(sys.executable).with_name("aws")


class Shell:
    """One principal's shell."""

    calls = 0

    def __init__(self, mill: Daemon, role: str):
        self.environment = environment(**mill.credentials(role))

    def run(self, operation: str, *arguments: str) -> subprocess.CompletedProcess:
        Shell.calls += 1
        command = [AWS, "kms", operation, "--output", "json", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)

    def call(self, operation: str, *arguments: str) -> dict:
        done = self.run(operation, *arguments)
        assert done.returncode == 0, f"aws kms {operation}: {done.stderr}"
        return json.loads(done.stdout or "{}")

    def refused(self, code: str, message: str, operation: str, *arguments: str) -> None:
        done = self.run(operation, *arguments)
        said = done.stderr.strip()
        assert done.returncode != 0 and f"({code})" in said and message in said, f"aws kms {operation}: {said}"


def ask_and_open(provisioner: Shell, consumer: Shell, names: list[str], folder: Path) -> None:
    """By every name, with and without context."""
    for name in names:
        for context in ([], ["--encryption-context", "container=container-000000000001,tenant=blue"]):
            asked = ["--key-id", name, "--key-spec", "AES_256", *context]
            made = provisioner.call("generate-data-key-without-plaintext", *asked)
            blob = base64.b64decode(made["CiphertextBlob"], validate=True)
            assert made["KeyId"] == names[1] and len(blob) == BLOB_BYTES and "Plaintext" not in made, made
            path = folder / "blob"
            path.write_bytes(blob)
            opened = consumer.call("decrypt", "--ciphertext-blob", f"fileb://{path}", *context)
            assert opened["KeyId"] == names[1] and len(base64.b64decode(opened["Plaintext"])) == 32, opened


def refusals(mill: Daemon, admin: Shell, provisioner: Shell, consumer: Shell, names: list[str], folder: Path) -> None:
    """The path still holds the last blob, which was made under a context."""
    key, arn, alias, _ = names
    blob = ["--ciphertext-blob", f"fileb://{folder / 'blob'}"]
    ask = "generate-data-key-without-plaintext"
    provisioner.refused("AccessDeniedException", NOT_ALLOWED_TO_OPEN, "decrypt", *blob)
    denied = "because no identity-based policy allows the kms:Decrypt action"
    provisioner.refused("AccessDeniedException", denied, "decrypt", "--key-id", alias, *blob)
    consumer.refused("AccessDeniedException", "kms:GenerateDataKeyWithoutPlaintext", ask, "--key-id", key, "--key-spec", "AES_256")
    consumer.refused("InvalidCiphertextException", "", "decrypt", *blob)
    missing = f"Alias {mill.arn('alias/nobody')} is not found."
    admin.refused("NotFoundException", missing, ask, "--key-id", "alias/nobody", "--key-spec", "AES_256")
    neither = "Please specify either number of bytes or key spec."
    provisioner.refused("ValidationException", neither, ask, "--key-id", key)
    long = "Member must have value less than or equal to 1024"
    provisioner.refused("ValidationException", long, ask, "--key-id", key, "--number-of-bytes", "1025")
    dry = ["--key-id", key, "--key-spec", "AES_256", "--dry-run"]
    provisioner.refused("DryRunOperationException", "would have succeeded", ask, *dry)
    admin.call("disable-key", "--key-id", key)
    provisioner.refused("DisabledException", f"{arn} is disabled.", ask, "--key-id", alias, "--key-spec", "AES_256")
    admin.call("enable-key", "--key-id", key)
    provisioner.call(ask, "--key-id", alias, "--key-spec", "AES_128")


def main() -> None:
    with running() as mill, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        admin, provisioner, consumer = (Shell(mill, role) for role in ("admin", "provisioner", "consumer"))
        metadata = admin.call("create-key", "--description", "made by the AWS CLI")["KeyMetadata"]
        admin.call("create-alias", "--alias-name", "alias/aws-cli", "--target-key-id", metadata["KeyId"])
        names = [metadata["KeyId"], metadata["Arn"], "alias/aws-cli", mill.arn("alias/aws-cli")]
        ask_and_open(provisioner, consumer, names, folder)
        refusals(mill, admin, provisioner, consumer, names, folder)
        listed = [entry["AliasName"] for entry in admin.call("list-aliases")["Aliases"]]
        assert {ALIAS, "alias/aws-cli"} <= set(listed), listed
    version = subprocess.run([AWS, "--version"], capture_output=True, text=True, check=True).stdout
    report("AWS CLI", version.split()[0].removeprefix("aws-cli/"), Shell.calls)


if __name__ == "__main__":
    main()
