"""Tink for Python over boto3 on a running daemon: a remote AEAD, envelopes with a key of their own for each message, and a keyset that is kept wrapped."""

import importlib.metadata
import io

import daemon
import tink
from daemon import ALIAS, Daemon, Tally, new_key
from tink import aead
from tink.integration import awskms

TEXT = b"what a container holds" * 1000
CONTAINER = b"container-000000000042"
MESSAGES = 20


def remote(mill: Daemon, role: str, arn: str, tally: Tally) -> aead.Aead:
    """The KMS key itself as an AEAD: associated data goes into the encryption context."""
    uri = f"aws-kms://{arn}"
    return awskms.new_client(boto3_client=mill.client(role, tally), key_uri=uri).get_aead(uri)


def fails(code: str | None, call, /, *arguments) -> None:
    """Calls, and holds the failure to the code that KMS refused with; `None` if Tink alone refused."""
    try:
        call(*arguments)
    except tink.TinkError as error:
        said = error.args[0].response["Error"]["Code"] if error.args and hasattr(error.args[0], "response") else None
        assert said == code, f"{error!r} instead of {code}"
        return
    raise AssertionError(f"no failure by {code}")


def direct(mill: Daemon, arn: str, other: str, tally: Tally) -> None:
    """What the daemon seals itself opens under its associated data and its key alone."""
    admin, consumer = remote(mill, "admin", arn, tally), remote(mill, "consumer", arn, tally)
    for text, container in ((b"short", b""), (b"short", CONTAINER), (b"x" * 4096, b"\0\xff")):
        blob = admin.encrypt(text, container)
        assert consumer.decrypt(blob, container) == text
        fails("InvalidCiphertextException", consumer.decrypt, blob, container + b"x")
        fails("InvalidCiphertextException", consumer.decrypt, blob[:-1], container)
        fails("IncorrectKeyException", remote(mill, "consumer", other, tally).decrypt, blob, container)
        fails("AccessDeniedException", remote(mill, "provisioner", arn, tally).decrypt, blob, container)
    fails("AccessDeniedException", consumer.encrypt, b"short", b"")
    fails("ValidationException", admin.encrypt, b"x" * 4097, b"")


def envelopes(mill: Daemon, arn: str, other: str, tally: Tally) -> None:
    """A data key of Tink's own in every message, wrapped by the daemon; streams in chunks likewise."""
    template = aead.aead_key_templates.AES256_GCM
    seals = aead.KmsEnvelopeAead(template, remote(mill, "admin", arn, tally))
    opens = aead.KmsEnvelopeAead(template, remote(mill, "consumer", arn, tally))
    messages = {seals.encrypt(TEXT, CONTAINER) for _ in range(MESSAGES)}
    assert len(messages) == MESSAGES and {opens.decrypt(message, CONTAINER) for message in messages} == {TEXT}
    message = messages.pop()
    fails(None, opens.decrypt, message, b"container-000000000043")
    fails(None, opens.decrypt, message[:-1] + bytes([message[-1] ^ 1]), CONTAINER)
    wrapped = len(message) - len(TEXT)
    assert wrapped < 512, f"{wrapped} bytes beside the text"
    fails("InvalidCiphertextException", opens.decrypt, message[:60] + bytes([message[60] ^ 1]) + message[61:], CONTAINER)
    elsewhere = aead.KmsEnvelopeAead(template, remote(mill, "consumer", other, tally))
    fails("IncorrectKeyException", elsewhere.decrypt, message, CONTAINER)
    may_not = aead.KmsEnvelopeAead(template, remote(mill, "provisioner", arn, tally))
    fails("AccessDeniedException", may_not.decrypt, message, CONTAINER)
    mill.client("admin", tally).disable_key(KeyId=arn)
    fails("DisabledException", opens.decrypt, message, CONTAINER)
    mill.client("admin", tally).enable_key(KeyId=arn)
    mill.client("admin", tally).rotate_key_on_demand(KeyId=arn)
    assert opens.decrypt(message, CONTAINER) == TEXT


def keysets(mill: Daemon, arn: str, tally: Tally) -> None:
    """A keyset that is wrapped by the daemon: opened once, used without it."""
    handle = tink.new_keyset_handle(aead.aead_key_templates.XCHACHA20_POLY1305)
    text = io.StringIO()
    handle.write_with_associated_data(tink.JsonKeysetWriter(text), remote(mill, "admin", arn, tally), b"keyset")

    def read(role: str, data: bytes) -> tink.KeysetHandle:
        return tink.read_keyset_handle_with_associated_data(tink.JsonKeysetReader(text.getvalue()), remote(mill, role, arn, tally), data)

    message = handle.primitive(aead.Aead).encrypt(TEXT, CONTAINER)
    calls = tally.calls
    again = read("consumer", b"keyset")
    assert tally.calls == calls + 1 and again.primitive(aead.Aead).decrypt(message, CONTAINER) == TEXT
    fails("InvalidCiphertextException", read, "consumer", b"another")
    fails("AccessDeniedException", read, "provisioner", b"keyset")


def main() -> None:
    aead.register()
    with daemon.step("tink", importlib.metadata.version("tink")) as (mill, tally):
        arn, other = new_key(mill, "alias/tink", tally)[1], mill.client("admin", tally).describe_key(KeyId=ALIAS)["KeyMetadata"]["Arn"]
        direct(mill, arn, other, tally)
        envelopes(mill, arn, other, tally)
        keysets(mill, arn, tally)


if __name__ == "__main__":
    main()
