"""The Java clients on a running daemon: the JDK's own HTTP client, the AWS SDK for Java v2 and the AWS Encryption SDK for Java, whose messages the one for Python opens, and the other way around. tests/long has them built."""

import json
import subprocess
import tempfile
from pathlib import Path

import aws_encryption_sdk
from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders
from aws_cryptographic_material_providers.mpl.config import MaterialProvidersConfig
from aws_cryptographic_material_providers.mpl.models import CreateAwsKmsKeyringInput
from daemon import LINES, Daemon, environment, new_key, running

JAVA = Path(__file__).resolve().parent / "java" / "target"
TEXT, CONTEXT = b"what a container holds" * 1000, {"tenant": "Zoë"}


def run(mill: Daemon, name: str, **variables: str) -> None:
    classes = f"{JAVA / 'classes'}:{(JAVA / 'classpath').read_text().strip()}"
    facts = {"DAEMON": json.dumps(mill.facts), "CLIENT_LINES": str(LINES)}
    subprocess.run(["java", "-Dfile.encoding=UTF-8", "-cp", classes, f"clients.{name}"], env=environment(**facts, **variables), check=True)


def encryption_sdk(mill: Daemon, folder: Path) -> None:
    arn = new_key(mill, "alias/java")[1]
    client, providers = aws_encryption_sdk.EncryptionSDKClient(), AwsCryptographicMaterialProviders(config=MaterialProvidersConfig())

    def keyring(role: str):
        return providers.create_aws_kms_keyring(CreateAwsKmsKeyringInput(kms_key_id=arn, kms_client=mill.client(role)))

    (folder / "text").write_bytes(TEXT)
    (folder / "python").write_bytes(client.encrypt(source=TEXT, keyring=keyring("admin"), encryption_context=CONTEXT)[0])
    run(mill, "EncryptionSdk", MESSAGES=str(folder), KEY_ARN=arn)
    for name in ("java-keyring", "java-provider"):
        text, header = client.decrypt(source=(folder / name).read_bytes(), keyring=keyring("consumer"))
        assert text == TEXT and header.encryption_context.items() >= CONTEXT.items(), header


def main() -> None:
    with running() as mill, tempfile.TemporaryDirectory(prefix="keymill-java-") as folder:
        run(mill, "JdkClient")
        run(mill, "SdkV2")
        encryption_sdk(mill, Path(folder))


if __name__ == "__main__":
    main()
