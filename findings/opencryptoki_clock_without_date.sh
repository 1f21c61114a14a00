#!/usr/bin/env bash
# openCryptoki's software token says that it has a clock, and gives the time of day as 20:12:34 in
# place of the sixteen digits YYYYMMDDhhmmss00 of PKCS #11 (CK_TOKEN_INFO). A reader that parses the
# time refuses all that C_GetTokenInfo says, the label among it: Rust's cryptoki 0.12.1 does, so it
# surprises whoever looks for a token by its label with it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
version=3.8.1+dfsg-3.2+b3
(cd "$folder" && apt-get download --quiet=2 "opencryptoki=$version" "libopencryptoki0=$version" >/dev/null 2>&1)
for package in "$folder"/*.deb; do dpkg-deb --extract "$package" "$folder/root"; done
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check PyKCS11==1.5.20
cat >"$folder/ask.py" <<'PYTHON'
import re
import sys

import PyKCS11

library = PyKCS11.PyKCS11Lib()
library.load(sys.argv[1])
[slot] = library.getSlotList(tokenPresent=True)
token = library.getTokenInfo(slot)
print("label:", token.label, "clock:", bool(token.flags & PyKCS11.CKF_CLOCK_ON_TOKEN), "time:", repr(token.utcTime))
assert token.flags & PyKCS11.CKF_CLOCK_ON_TOKEN
sys.exit(0 if re.fullmatch(r"\d\d:\d\d:\d\d {8}", token.utcTime) else 1)
PYTHON
# Its daemon has its places in the whole machine: they are others here, which takes root.
echo "openCryptoki $version, PyKCS11 1.5.20"
unshare --mount --ipc --pid --fork --kill-child --mount-proc sh -euc '
    mount -t tmpfs tmpfs /run
    mkdir -p /run/places
    for place in /var/lib /etc; do
        mkdir -p "$1/over$place" "$1/work$place"
        mount -t tmpfs tmpfs "$1/over$place"
    done
    cp -a /etc/passwd /etc/group /etc/ld.so.cache "$1/over/etc/"
    cp -r "$1/root/etc/opencryptoki" "$1/over/etc/"
    grep -q ^pkcs11: "$1/over/etc/group" || echo "pkcs11:x:0:root" >>"$1/over/etc/group"
    mount --bind "$1/over/etc" /etc
    mount --bind "$1/over/var/lib" /var/lib
    for place in /run/lock/opencryptoki /var/lib/opencryptoki; do
        for token in ccatok ep11tok icsf lite swtok tpm; do
            mkdir -p $place/$token/TOK_OBJ
        done
        chmod -R 770 $place
        chgrp -R pkcs11 $place
    done
    export LD_LIBRARY_PATH="$1/root/usr/lib/x86_64-linux-gnu:$1/root/usr/lib/x86_64-linux-gnu/opencryptoki/stdll"
    "$1/root/usr/sbin/pkcsslotd"
    "$1/venv/bin/python" "$1/ask.py" "$1/root/usr/lib/x86_64-linux-gnu/pkcs11/libopencryptoki.so"
' sh "$folder"
