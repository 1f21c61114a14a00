#!/usr/bin/env bash
# gmssl takes a public key of SM2 with the mark 04 of an uncompressed point, as certificates have
# it, and removes the mark with lstrip("04"): each digit 0 or 4 at the start of x goes with it. The
# example key of the standard (GB/T 32918.5) begins with 09, so the standard's own signature is
# refused. It surprises whoever has one of the keys, one in eight, that begin so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check gmssl==3.2.2
cat >"$folder/verify.py" <<'PYTHON'
from gmssl import sm2

# GB/T 32918.5, appendix A.2: the public key, the hash that is signed, and the signature.
X = "09f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"
Y = "ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13"
HASH = bytes.fromhex("f0b43e94ba45accaace692ed534382eb17e6ab5a19ce7b31f4486fdfc0d28640")
R = "f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3"
S = "b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa"

for name, point in {"x and y": X + Y, "04, x and y": "04" + X + Y}.items():
    key = sm2.CryptSM2(private_key="", public_key=point)
    verified = key.verify(R + S, HASH)
    print(f"gmssl 3.2.2, {name}: {len(key.public_key)} digits kept, verified: {verified}")
PYTHON
seen=$("$folder/venv/bin/python" "$folder/verify.py")
expected="gmssl 3.2.2, x and y: 128 digits kept, verified: True
gmssl 3.2.2, 04, x and y: 127 digits kept, verified: False"
echo "$seen"
[ "$seen" = "$expected" ] || { echo "the behaviour has changed; expected:"; echo "$expected"; exit 1; }
