"""Field-level encryption of Confluent's Kafka client on a running daemon: a producer's process seals the tagged fields of Avro messages under a data key that the daemon has encrypted, and a consumer's process has the daemon open it. The schema registry is the client's own mock, so the data key is carried across here."""

import base64
import io
import json
import subprocess
import sys
from importlib.metadata import version

import fastavro
from confluent_kafka.schema_registry import RuleKind, RuleMode, RuleParams, RuleSet, Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.rules.encryption.awskms.aws_driver import AwsKmsDriver
from confluent_kafka.schema_registry.rules.encryption.dek_registry.dek_registry_client import DekAlgorithm
from confluent_kafka.schema_registry.rules.encryption.encrypt_executor import Clock, FieldEncryptionExecutor
from confluent_kafka.schema_registry.schema_registry_client import Rule
from confluent_kafka.serialization import MessageField, SerializationContext
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from daemon import Daemon, environment, new_key, report, running
from tink.proto import aes_gcm_pb2

TOPIC, SUBJECT, KEK = "containers", "containers-value", "kek"
FIELDS = [{"name": "id", "type": "string"}, {"name": "secret", "type": "bytes", "confluent:tags": ["PII"]}, {"name": "owner", "type": "string", "confluent:tags": ["PII"]}]
SCHEMA = {"type": "record", "name": "Container", "fields": FIELDS}
MESSAGES = [{"id": f"vol-{number}", "secret": b"\0\xff" * number, "owner": f"Zoë {number}"} for number in range(20)]
# Before what Avro writes are a zero and the number of the schema; before what is sealed, the nonce.
HEAD_BYTES, NONCE_BYTES = 5, 12


def registry(arn: str) -> SchemaRegistryClient:
    """A registry that has the schema, with the rule that says which fields are sealed under which KMS key."""
    client = SchemaRegistryClient.new_client({"url": "mock://"})
    told = RuleParams({"encrypt.kek.name": KEK, "encrypt.kms.type": "aws-kms", "encrypt.kms.key.id": arn})
    rule = Rule("seal", "", RuleKind.TRANSFORM, RuleMode.WRITEREAD, "ENCRYPT", ["PII"], told, None, None, "ERROR,ERROR", False)
    client.register_schema(SUBJECT, Schema(json.dumps(SCHEMA), "AVRO", [], None, RuleSet(None, [rule])))
    return client


def produce(arn: str) -> dict:
    executor, client = FieldEncryptionExecutor.register_with_clock(Clock()), registry(arn)
    serializer = AvroSerializer(client, conf={"auto.register.schemas": False, "use.latest.version": True})
    context = SerializationContext(TOPIC, MessageField.VALUE)
    messages = [serializer(message, context) for message in MESSAGES]
    dek = executor.executor.client.get_dek(KEK, SUBJECT, DekAlgorithm.AES256_GCM, 1)
    return {"messages": [base64.b64encode(message).decode() for message in messages], "dek": dek.encrypted_key_material}


def consume(arn: str, produced: dict) -> dict:
    executor, client = FieldEncryptionExecutor.register_with_clock(Clock()), registry(arn)
    deserializer = AvroDeserializer(client)
    deks = executor.executor.client
    deks.register_kek(KEK, "aws-kms", arn)
    deks.register_dek(KEK, SUBJECT, produced["dek"], DekAlgorithm.AES256_GCM, 1)
    context = SerializationContext(TOPIC, MessageField.VALUE)
    read = [deserializer(base64.b64decode(message), context) for message in produced["messages"]]
    return {"read": [message | {"secret": base64.b64encode(message["secret"]).decode()} for message in read]}


def run(mill: Daemon, role: str, arn: str, task: str, given: dict, fails: str | None = None) -> dict:
    """Runs one of the two above as a principal in a process of its own; `fails` is what it must say when it has to fail."""
    command = [sys.executable, __file__, task, arn]
    ran = subprocess.run(command, env=environment(**mill.credentials(role)), input=json.dumps(given), capture_output=True, text=True, check=False)
    assert (ran.returncode != 0) == bool(fails), ran.stderr
    assert not fails or fails in ran.stderr, ran.stderr
    return {} if fails else json.loads(ran.stdout)


def opened_by_hand(mill: Daemon, produced: dict) -> list[dict]:
    """The messages, with the data key opened by boto3, and each field by AES-GCM."""
    material = mill.client("consumer").decrypt(CiphertextBlob=base64.b64decode(produced["dek"]))["Plaintext"]
    cipher = AESGCM(aes_gcm_pb2.AesGcmKey.FromString(material).key_value)

    def opened(sealed: bytes) -> bytes:
        return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], b"")

    plain = []
    for message in produced["messages"]:
        sealed = fastavro.schemaless_reader(io.BytesIO(base64.b64decode(message)[HEAD_BYTES:]), fastavro.parse_schema(SCHEMA))
        plain.append({"id": sealed["id"], "secret": opened(sealed["secret"]), "owner": opened(base64.b64decode(sealed["owner"])).decode()})
    return plain


def check(mill: Daemon) -> None:
    arn, other = (new_key(mill, f"alias/kafka-{number}")[1] for number in range(2))
    produced = run(mill, "admin", arn, "produce", {})
    assert len(produced["messages"]) == len(MESSAGES) and not any("Zoë".encode() in base64.b64decode(message) for message in produced["messages"])
    read = run(mill, "consumer", arn, "consume", produced)["read"]
    assert [message | {"secret": base64.b64decode(message["secret"])} for message in read] == MESSAGES, read
    assert opened_by_hand(mill, produced) == MESSAGES
    run(mill, "consumer", arn, "produce", {}, fails="AccessDeniedException")
    run(mill, "provisioner", arn, "consume", produced, fails="AccessDeniedException")
    run(mill, "consumer", other, "consume", produced, fails="IncorrectKeyException")
    changed = bytearray(base64.b64decode(produced["dek"]))
    changed[-1] ^= 1
    run(mill, "consumer", arn, "consume", produced | {"dek": base64.b64encode(changed).decode()}, fails="InvalidCiphertextException")


def main() -> None:
    with running() as mill:
        check(mill)
        calls = sum(mill.metric("keymill_requests_total", operation=operation) for operation in ("Encrypt", "Decrypt"))
    report("confluent-kafka", version("confluent-kafka"), int(calls))


if __name__ == "__main__":
    if sys.argv[1:]:
        AwsKmsDriver.register()
        task, arn, given = sys.argv[1], sys.argv[2], json.load(sys.stdin)
        json.dump(produce(arn) if task == "produce" else consume(arn, given), sys.stdout)
    else:
        main()
