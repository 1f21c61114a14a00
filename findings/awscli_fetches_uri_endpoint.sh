#!/usr/bin/env bash
# Version 1 of the AWS CLI takes the value of any option that is a URL for a file: it fetches the
# URL, and sends what it got. So `aws kms create-custom-key-store --xks-proxy-uri-endpoint
# https://…`, as AWS's documents have it, asks the key store's proxy for its root, and AWS KMS gets
# the answer in the place of the URL, or the command fails. `cli_follow_urlparam = false` in the
# configuration turns it off, as in version 2.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check awscli==1.46.3
cat >"$folder/serve.py" <<'PYTHON'
import http.server
import json
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(b"whatever the proxy says at its root")

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        print("AWS KMS is given", asked["XksProxyUriEndpoint"], flush=True)
        self.answer(b'{"CustomKeyStoreId": "cks-1234567890abcdef0"}')

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(f"http://127.0.0.1:{server.server_port}", file=open(sys.argv[1], "w"), flush=True)
server.serve_forever()
PYTHON
"$folder/venv/bin/python" "$folder/serve.py" "$folder/address" >"$folder/log" &
for _ in $(seq 100); do
    [ ! -s "$folder/address" ] || break
    sleep 0.1
done
address=$(cat "$folder/address")
export AWS_CONFIG_FILE="$folder/config" AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_EC2_METADATA_DISABLED=true
for follow in true false; do
    "$folder/venv/bin/aws" configure set cli_follow_urlparam "$follow"
    "$folder/venv/bin/aws" kms create-custom-key-store --custom-key-store-name a --region us-east-1 \
        --custom-key-store-type EXTERNAL_KEY_STORE --xks-proxy-uri-endpoint "$address" \
        --no-sign-request --endpoint-url "$address" >/dev/null
    printf 'cli_follow_urlparam = %s: %s\n' "$follow" "$(tail -n 1 "$folder/log")"
done
