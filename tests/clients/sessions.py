"""boto3 with the credentials of a role's session, with access keys that are rolled under it, and with identical calls within one second.

Session tokens are also sealed here, from docs/formats.md and the root key alone: one that has expired can be had in no other way in less than 15
minutes, and one that has not shows that the format is what is written there.
"""

import base64
import hmac
import json
import os
import struct
import subprocess
import threading
import time

import boto3
import botocore.session
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from daemon import ALIAS, BINARY, BLOB_BYTES, Daemon, Tally, environment, refused, step, wait_until
from open_blobs import derive

INVALID = "The security token included in the request is invalid."
EXPIRED = "The security token included in the request is expired"
CALLERS = 8
ROLLS = 6
WAIT_SECONDS = 60


def operator(mill: Daemon, *arguments: str) -> dict:
    """What a command of the operator prints, through the running daemon."""
    command = [BINARY, *arguments, "--endpoint", f"unix:{mill.socket}", "--json"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return json.loads(done.stdout)


def policy(mill: Daemon, *actions: str) -> str:
    """A file with a policy that allows these."""
    file = mill.state / f"{'-'.join(actions).replace(':', '.').replace('*', 'all')}.json"
    file.write_text(json.dumps({"Statement": {"Effect": "Allow", "Action": actions, "Resource": "*"}}))
    return str(file)


def client(mill: Daemon, tally: Tally, told: dict):
    """A boto3 client with credentials as the command line tells them."""
    session = boto3.session.Session(
        told["AccessKeyId"], told["SecretAccessKey"], told.get("SessionToken"), region_name=mill.facts["region"],
    )
    made = session.client("kms", endpoint_url=mill.endpoint)
    made.meta.events.register("after-call.kms", tally.count)
    return made


def make_and_open(kms) -> None:
    blob = kms.generate_data_key_without_plaintext(KeyId=ALIAS, KeySpec="AES_256")["CiphertextBlob"]
    assert len(blob) == BLOB_BYTES and len(kms.decrypt(CiphertextBlob=blob)["Plaintext"]) == 32


def seal(mill: Daemon, role: dict, told: dict, issued: float, seconds: float) -> str:
    """A session token, sealed by an implementation that shares nothing with the daemon."""
    root = bytes.fromhex((mill.state / "root.key").read_text().split()[1])
    key = hmac.digest(root, b"keymill subkey v1 session tokens\x01", "sha256")
    fields = [role["Arn"], role["UniqueId"], "sealed-here", told["AccessKeyId"], told["SecretAccessKey"]]
    plaintext = struct.pack(">QQ", int(issued * 1e6), int((issued + seconds) * 1e6))
    plaintext += b"".join(struct.pack(">H", len(field)) + field.encode() for field in fields)
    nonce = os.urandom(24)
    sealed = AESGCM(derive(key, nonce[:12])).encrypt(nonce[12:], plaintext, b"keymill session token v1")
    return base64.b64encode(b"\x01" + nonce + sealed).decode()


def sessions(mill: Daemon, tally: Tally) -> None:
    """A session works, and is nothing without its own token, after its end, or without its role."""
    role = operator(mill, "principal", "create", "batch", "--kind", "role", "--policy", policy(mill, "kms:*"))
    told = operator(mill, "principal", "create-session", "batch", "--session-name", "nightly")
    other = operator(mill, "principal", "create-session", "batch", "--session-name", "other")
    kms = client(mill, tally, told)
    make_and_open(kms)
    assert told["Arn"].endswith(":assumed-role/batch/nightly"), told

    def refuses(code: str, message: str, **changes: str) -> None:
        changed = client(mill, tally, told | changes)
        refused(code, message, changed.generate_data_key_without_plaintext, KeyId=ALIAS, KeySpec="AES_256")

    token = told["SessionToken"]
    middle = len(token) // 2
    altered = token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1:]
    for wrong in (altered, token[:-4], other["SessionToken"], "token"):
        refuses("UnrecognizedClientException", INVALID, SessionToken=wrong)
    refuses("UnrecognizedClientException", INVALID, SessionToken="")
    refuses("InvalidSignatureException", None, SecretAccessKey=other["SecretAccessKey"])
    user = mill.principal("provisioner")
    refuses("UnrecognizedClientException", INVALID, AccessKeyId=user["access_key_id"], SecretAccessKey=user["secret_access_key"])

    make_and_open(client(mill, tally, told | {"SessionToken": seal(mill, role, told, time.time(), 900)}))
    for issued, seconds in ((time.time() - 901, 900), (time.time() - 1, 0.5)):
        refuses("ExpiredTokenException", EXPIRED, SessionToken=seal(mill, role, told, issued, seconds))
    stranger = role | {"UniqueId": "AROAAAAAAAAAAAAAAAAAA"}
    refuses("UnrecognizedClientException", INVALID, SessionToken=seal(mill, stranger, told, time.time(), 900))

    operator(mill, "principal", "put-policies", role["Arn"], "--policy", policy(mill, "kms:Decrypt"))
    refuses("AccessDeniedException", None)
    operator(mill, "principal", "disable", role["Arn"])
    refuses("UnrecognizedClientException", INVALID)
    operator(mill, "principal", "enable", role["Arn"])
    operator(mill, "principal", "put-policies", role["Arn"], "--policy", policy(mill, "kms:*"))
    make_and_open(kms)


def credential_process(mill: Daemon, tally: Tally) -> None:
    """AWS clients call the command line for new credentials by themselves."""
    command = f"{BINARY} principal create-session batch --session-name hourly --endpoint unix:{mill.socket} --json"
    file = mill.state / "aws-config"
    file.write_text(f"[profile batch]\nregion = {mill.facts['region']}\ncredential_process = {command}\n")
    inner = botocore.session.Session(profile="batch")
    inner.set_config_variable("config_file", str(file))
    kms = boto3.session.Session(botocore_session=inner).client("kms", endpoint_url=mill.endpoint)
    kms.meta.events.register("after-call.kms", tally.count)
    make_and_open(kms)


def rolled_keys(mill: Daemon, tally: Tally) -> None:
    """No call fails while the access key under it is rolled; whoever has kept the old one is refused."""
    first = operator(mill, "principal", "create", "roller", "--policy", policy(mill, "kms:*"))
    serving = [(0, client(mill, tally, first))]
    done, failures, stop = [-1] * CALLERS, [], threading.Event()

    def call(caller: int) -> None:
        while not stop.is_set():
            version, kms = serving[0]
            try:
                make_and_open(kms)
            except Exception as error:  # Whatever it is, it is told below.
                failures.append(error)
                return
            done[caller] = version

    callers = [threading.Thread(target=call, args=(number,)) for number in range(CALLERS)]
    for caller in callers:
        caller.start()
    try:
        old = first
        for version in range(1, ROLLS + 1):
            new = operator(mill, "principal", "new-access-key", "roller")
            serving[0] = (version, client(mill, tally, new))
            # A caller that has been answered under the new key has nothing under way under the old
            # one.
            wait_until(lambda now=version: failures or min(done) == now, WAIT_SECONDS, "every caller under the new key")
            kept = client(mill, tally, old)
            operator(mill, "principal", "deactivate-access-key", "roller", old["AccessKeyId"])
            refused("UnrecognizedClientException", INVALID, kept.describe_key, KeyId=ALIAS)
            operator(mill, "principal", "activate-access-key", "roller", old["AccessKeyId"])
            kept.describe_key(KeyId=ALIAS)
            operator(mill, "principal", "deactivate-access-key", "roller", old["AccessKeyId"])
            operator(mill, "principal", "delete-access-key", "roller", old["AccessKeyId"], "--yes")
            refused("UnrecognizedClientException", INVALID, kept.describe_key, KeyId=ALIAS)
            old = new
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    assert not failures, failures
    assert min(done) == ROLLS, done


def identical_calls(mill: Daemon, tally: Tally) -> None:
    """Four calls that are the same to the last byte of their signatures are four calls."""
    kms, signatures = mill.client("provisioner", tally), []

    def forget_the_invocation(request, **_) -> None:
        for name in [name for name in request.headers if name.lower().startswith("amz-sdk-")]:
            del request.headers[name]

    kms.meta.events.register("before-sign.kms", forget_the_invocation)
    kms.meta.events.register("before-send.kms", lambda request, **_: signatures.append(bytes(request.headers["Authorization"])))
    for _ in range(100):
        signatures.clear()
        blobs = [kms.generate_data_key_without_plaintext(KeyId=ALIAS, KeySpec="AES_256")["CiphertextBlob"] for _ in range(4)]
        assert len(set(blobs)) == 4, "a data key came twice"
        if len(set(signatures)) == 1:
            return
    raise AssertionError(f"no four calls had one signature: {signatures}")


def main() -> None:
    with step("boto3 with sessions", boto3.__version__) as (mill, tally):
        sessions(mill, tally)
        credential_process(mill, tally)
        rolled_keys(mill, tally)
        identical_calls(mill, tally)


if __name__ == "__main__":
    main()
