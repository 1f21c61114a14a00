"""Signatures that leave the content type out, by requests-auth-aws-sigv4; and curl, which signs by itself. Both over TCP, and neither changed here."""

import json
import subprocess
from importlib.metadata import version

import requests
from daemon import ALIAS, Daemon, report, running
from requests_auth_aws_sigv4 import AWSSigV4
from wire import JSON

ROUNDS = 20


class Requests:
    """requests with its signer. The header that it sends is looked at: once it signs the type, this step shows nothing."""

    calls = 0

    @classmethod
    def call(cls, mill: Daemon, role: str, operation: str, members: dict) -> dict:
        cls.calls += 1
        principal = mill.principal(role)
        signer = AWSSigV4(
            "kms", region=mill.facts["region"], aws_access_key_id=principal["access_key_id"], aws_secret_access_key=principal["secret_access_key"],
        )
        head = {"Content-Type": JSON, "X-Amz-Target": f"TrentService.{operation}"}
        answer = requests.post(mill.endpoint, data=json.dumps(members), headers=head, auth=signer, timeout=30)
        signed = answer.request.headers["Authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
        assert "content-type" not in signed, signed
        return answer.json()


class Curl:
    """curl --aws-sigv4, as its manual has it."""

    calls = 0

    @classmethod
    def call(cls, mill: Daemon, role: str, operation: str, members: dict, *more: str) -> dict:
        cls.calls += 1
        principal = mill.principal(role)
        command = ["curl", "--silent", "--show-error", "--aws-sigv4", f"aws:amz:{mill.facts['region']}:kms", mill.endpoint]
        command += ["--user", f"{principal['access_key_id']}:{principal['secret_access_key']}"]
        command += ["-H", f"Content-Type: {JSON}", "-H", f"X-Amz-Target: TrentService.{operation}", "-d", json.dumps(members), *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def asks_and_opens(mill: Daemon, client) -> None:
    """Keys by the provisioner, opened by the consumer and by no other; a wrong context is refused."""
    context = {"container": "container-000000000042"}
    for _ in range(ROUNDS):
        made = client.call(mill, "provisioner", "GenerateDataKeyWithoutPlaintext", {"KeyId": ALIAS, "KeySpec": "AES_256", "EncryptionContext": context})
        blob = {"CiphertextBlob": made["CiphertextBlob"]}
        opened = client.call(mill, "consumer", "Decrypt", blob | {"EncryptionContext": context})
        assert opened["KeyId"] == made["KeyId"] and len(opened["Plaintext"]) == 44, opened
        assert client.call(mill, "consumer", "Decrypt", blob)["__type"] == "InvalidCiphertextException"
        assert client.call(mill, "provisioner", "Decrypt", blob)["__type"] == "AccessDeniedException"


def main() -> None:
    with running() as mill:
        asks_and_opens(mill, Requests)
        asks_and_opens(mill, Curl)
        forged = Curl.call(mill, "consumer", "ListKeys", {}, "--user", f"{mill.principal('consumer')['access_key_id']}:not the secret")
        assert forged["__type"] == "InvalidSignatureException", forged
    report("requests-auth-aws-sigv4", version("requests-auth-aws-sigv4"), Requests.calls)
    told = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    report("curl --aws-sigv4", told, Curl.calls)


if __name__ == "__main__":
    main()
