#!/usr/bin/env bash
# The AWS CLI keeps the credentials of an assumed role in ~/.aws/cli/cache under a name made of the
# role, the session's name and the like, without the endpoint that gave them. Pointed at another
# STS (AWS_ENDPOINT_URL), it signs with the credentials of the first one until they expire. It
# surprises whoever tests a server of their own, or has a local and a real account under one role.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check awscli==1.46.3 "moto[server]==5.2.5"
cat >"$folder/config" <<'CONFIG'
[profile base]
aws_access_key_id = AKIAIOSFODNN7EXAMPLE
aws_secret_access_key = secret
region = us-east-1
[profile role]
role_arn = arn:aws:iam::111122223333:role/minter
source_profile = base
role_session_name = nightly
region = us-east-1
CONFIG
serve() { # NAME: a server of moto's on a port of its own, which counts requests in its log
    "$folder/venv/bin/python" -u -m moto.server --host 127.0.0.1 --port 0 >"$folder/$1.log" 2>&1 &
    for _ in $(seq 200); do
        endpoint=$(sed -n 's/.*Running on \(http[^ ]*\).*/\1/p' "$folder/$1.log")
        [ -z "$endpoint" ] || return 0
        sleep 0.1
    done
    cat "$folder/$1.log"
    return 1
}
ask() { # NAME: who the role's session is, according to this server
    HOME="$folder" AWS_CONFIG_FILE="$folder/config" AWS_PROFILE=role AWS_ENDPOINT_URL="$endpoint" \
        "$folder/venv/bin/aws" sts get-caller-identity >/dev/null
    echo "$1: $(grep -c '"POST / HTTP/1.1" 200' "$folder/$1.log") requests"
}
"$folder/venv/bin/aws" --version | cut -d' ' -f1
seen=$(serve first && ask first && serve second && ask second)
expected="first: 2 requests
second: 1 requests"
echo "$seen"
[ "$seen" = "$expected" ] || { echo "the behaviour has changed; expected:"; echo "$expected"; exit 1; }
