#!/usr/bin/env bash
# libmongocrypt, which MongoDB's drivers call AWS KMS with, knows the header `Content-Length` in this
# spelling alone. A KMS server or proxy that writes `content-length`, as HTTP allows (RFC 9110,
# section 5.1) and as hyper does, is answered with a parser error that speaks
# of "extra HTTP content". It surprises whoever puts a server of their own in the place of AWS KMS.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pymongocrypt==1.21.2 pymongo==4.20.1
cat >"$folder/answer.py" <<'PYTHON'
import base64
import json

import bson
import pymongocrypt
from pymongocrypt.errors import MongoCryptError
from pymongocrypt.options import MongoCryptOptions
from pymongocrypt.synchronous.explicit_encrypter import ExplicitEncrypter
from pymongocrypt.synchronous.state_machine import MongoCryptCallback

BLOB = base64.b64encode(bytes(96)).decode()
BODY = json.dumps({"KeyId": "arn:aws:kms:us-east-1:111122223333:key/x", "CiphertextBlob": BLOB})


class Driver(MongoCryptCallback):
    """Answers each request to KMS with one whole HTTP response."""

    def __init__(self, header: str):
        self.answer = f"HTTP/1.1 200 OK\r\n{header}: {len(BODY)}\r\n\r\n{BODY}".encode()
        self.keys = []

    def kms_request(self, kms):
        while kms.bytes_needed > 0:
            wanted = kms.bytes_needed
            kms.feed(self.answer[:wanted])
            self.answer = self.answer[wanted:]

    def fetch_keys(self, filter):
        yield from self.keys

    def insert_data_key(self, data_key):
        self.keys.append(data_key)
        return bson.decode(data_key)["_id"]

    def bson_encode(self, doc):
        return bson.encode(doc)

    def collection_info(self, database, filter):
        raise AssertionError

    def mark_command(self, database, cmd):
        raise AssertionError

    def close(self):
        pass


print("libmongocrypt", pymongocrypt.libmongocrypt_version())
for header in ("Content-Length", "content-length"):
    driver = Driver(header)
    credentials = {"accessKeyId": "AKIAIOSFODNN7EXAMPLE", "secretAccessKey": "secret"}
    encrypter = ExplicitEncrypter(driver, MongoCryptOptions({"aws": credentials}))
    try:
        encrypter.create_data_key("aws", {"region": "us-east-1", "key": "x"})
        print(f"{header}: a data key, {len(driver.keys)} stored")
    except MongoCryptError as error:
        print(f"{header}: {error}")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/answer.py")
expected="libmongocrypt 1.21.0
Content-Length: a data key, 1 stored
content-length: KMS response parser error with status 200, error: 'Unexpected extra HTTP content'"
echo "$seen"
[ "$seen" = "$expected" ] || { echo "the behaviour has changed; expected:"; echo "$expected"; exit 1; }
