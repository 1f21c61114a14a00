#!/usr/bin/env bash
# botocore renews the credentials of an assumed role when they end in less than 15 minutes. A role
# whose sessions last 900 seconds, the shortest that STS gives, is thus assumed again before every
# single request; at 1,000 seconds it is assumed once. It surprises whoever shortens sessions to be
# safe, and the STS that then gets as many requests as the service itself.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check boto3==1.44.8 "moto[server]==5.2.5"
cat >"$folder/ask.py" <<'PYTHON'
import boto3
import botocore

print("botocore", botocore.__version__)
for seconds in (900, 1000):
    calls = []
    session = boto3.Session(profile_name=f"role-{seconds}")
    events = session._session.get_component("event_emitter")
    events.register("before-send.sts", lambda **_: calls.append(1))
    kms = session.client("kms")
    for _ in range(6):
        kms.list_keys()
    print(f"{seconds} s: 6 requests to KMS, {len(calls)} to STS")
PYTHON
"$folder/venv/bin/python" -u -m moto.server --host 127.0.0.1 --port 0 >"$folder/log" 2>&1 &
for _ in $(seq 200); do
    endpoint=$(sed -n 's/.*Running on \(http[^ ]*\).*/\1/p' "$folder/log")
    [ -z "$endpoint" ] || break
    sleep 0.1
done
cat >"$folder/config" <<CONFIG
[profile base]
aws_access_key_id = AKIAIOSFODNN7EXAMPLE
aws_secret_access_key = secret
CONFIG
for seconds in 900 1000; do
    cat >>"$folder/config" <<CONFIG
[profile role-$seconds]
role_arn = arn:aws:iam::111122223333:role/minter
source_profile = base
duration_seconds = $seconds
region = us-east-1
CONFIG
done
seen=$(HOME="$folder" AWS_CONFIG_FILE="$folder/config" AWS_ENDPOINT_URL="$endpoint" \
    "$folder/venv/bin/python" "$folder/ask.py")
expected="botocore 1.44.8
900 s: 6 requests to KMS, 6 to STS
1000 s: 6 requests to KMS, 1 to STS"
echo "$seen"
[ "$seen" = "$expected" ] || { echo "the behaviour has changed; expected:"; echo "$expected"; exit 1; }
