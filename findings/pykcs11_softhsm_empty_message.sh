#!/usr/bin/env bash
# PyKCS11's sign() of an empty message is refused by SoftHSM, and the refused operation stays active:
# every later signature in that session ends with CKR_OPERATION_ACTIVE, where PKCS #11 (C_Sign) has a
# failed call end the operation. An empty message is the first example of AES-CMAC's own standard
# (RFC 4493, section 4), and python-pkcs11 signs it on the same token: it surprises whoever checks a
# key device with the standard's vectors.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
(cd "$folder" && apt-get download --quiet=2 softhsm2=2.6.1-2.1 libsofthsm2=2.6.1-2.1 >/dev/null 2>&1)
for package in "$folder"/*.deb; do dpkg-deb --extract "$package" "$folder/root"; done
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check PyKCS11==1.5.20 python-pkcs11==0.10.1
export SOFTHSM2_CONF=$folder/softhsm2.conf MODULE=$folder/root/usr/lib/softhsm/libsofthsm2.so
mkdir "$folder/tokens"
echo "directories.tokendir = $folder/tokens" >"$SOFTHSM2_CONF"
"$folder/root/usr/bin/softhsm2-util" --module "$MODULE" --init-token --free --label token \
    --so-pin 1234 --pin 1234 >/dev/null
cat >"$folder/sign.py" <<'PYTHON'
import os
import sys

import pkcs11
import PyKCS11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass

# RFC 4493, section 4: the key of all examples, and the messages of the first two.
KEY = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
MESSAGES = [b"", bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")]


def with_pykcs11() -> None:
    library = PyKCS11.PyKCS11Lib()
    library.load(os.environ["MODULE"])
    slot = library.getSlotList(tokenPresent=True)[0]
    session = library.openSession(slot, PyKCS11.CKF_SERIAL_SESSION | PyKCS11.CKF_RW_SESSION)
    session.login("1234")
    template = [
        (PyKCS11.CKA_CLASS, PyKCS11.CKO_SECRET_KEY),
        (PyKCS11.CKA_KEY_TYPE, PyKCS11.CKK_AES),
        (PyKCS11.CKA_TOKEN, PyKCS11.CK_FALSE),
        (PyKCS11.CKA_SIGN, PyKCS11.CK_TRUE),
        (PyKCS11.CKA_VALUE, KEY),
    ]
    key = session.createObject(template)
    for message in MESSAGES:
        try:
            mechanism = PyKCS11.Mechanism(PyKCS11.CKM_AES_CMAC)
            print(f"PyKCS11, {len(message)} bytes:", bytes(session.sign(key, message, mechanism)).hex())
        except PyKCS11.PyKCS11Error as error:
            print(f"PyKCS11, {len(message)} bytes:", str(error).split(" ")[0])
    session.logout()
    session.closeSession()


def with_python_pkcs11() -> None:
    token = pkcs11.lib(os.environ["MODULE"]).get_token(token_label="token")
    template = {
        Attribute.CLASS: ObjectClass.SECRET_KEY,
        Attribute.KEY_TYPE: KeyType.AES,
        Attribute.TOKEN: False,
        Attribute.SIGN: True,
        Attribute.VALUE: KEY,
    }
    with token.open(rw=True, user_pin="1234") as session:
        key = session.create_object(template)
        for message in MESSAGES:
            mac = key.sign(message, mechanism=Mechanism.AES_CMAC)
            print(f"python-pkcs11, {len(message)} bytes:", mac.hex())


{"PyKCS11": with_pykcs11, "python-pkcs11": with_python_pkcs11}[sys.argv[1]]()
PYTHON
seen=$(echo "PyKCS11 1.5.20, python-pkcs11 0.10.1, SoftHSM 2.6.1"
    "$folder/venv/bin/python" "$folder/sign.py" PyKCS11
    "$folder/venv/bin/python" "$folder/sign.py" python-pkcs11)
expected="PyKCS11 1.5.20, python-pkcs11 0.10.1, SoftHSM 2.6.1
PyKCS11, 0 bytes: CKR_ARGUMENTS_BAD
PyKCS11, 16 bytes: CKR_OPERATION_ACTIVE
python-pkcs11, 0 bytes: bb1d6929e95937287fa37d129b756746
python-pkcs11, 16 bytes: 070a16b46b4d4144f79bdd9dd04a287c"
echo "$seen"
[ "$seen" = "$expected" ] || { echo "the behaviour has changed; expected:"; echo "$expected"; exit 1; }
