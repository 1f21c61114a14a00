# shellcheck shell=bash
# What tests/run and tests/long share: setting up the clients, running a step, counting.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

clients=tests/clients
target=${CARGO_TARGET_DIR:-target}
python=$clients/.venv/bin/python
# What the script that reads this has said, or what is released.
: "${profile:=release}"
export DAEMON_BINARY=$target/$profile/keymill CLIENT_LINES=$target/tmp/clients CLIENT_LOGS=$target/tmp/logs
logs=$target/tmp/logs
mkdir -p "$logs" "$CLIENT_LINES"
passed=0 failed=0

# A step runs where bash ignores `set -e`: what must not go on after a failure says so with && or
# return.

# Installs the Debian packages that have the programs that are missing, or names them.
install_programs() {
    local package program missing=()
    while read -r package program; do
        command -v "$program" >/dev/null || missing+=("$package")
    done <<'PROGRAMS'
binutils strip
cryptsetup-bin cryptsetup
curl curl
dpkg-dev dpkg-shlibdeps
gpg gpg
jq jq
lintian lintian
mmdebstrap mmdebstrap
opencryptoki pkcsslotd
openjdk-17-jre-headless java
opensc pkcs11-tool
openssl openssl
postgresql pg_virtualenv
prometheus prometheus
prometheus promtool
restic restic
softhsm2 softhsm2-util
sqlite3 sqlite3
strace strace
PROGRAMS
    for program in cargo python3 node npm; do
        command -v "$program" >/dev/null || { echo "missing: $program" >&2; return 1; }
    done
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    has_postgresql || missing+=(postgresql)
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        echo "missing Debian packages: ${missing[*]}; install them, or run this as root" >&2
        return 1
    fi
    apt-get update &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
}

# Debian keeps the server of each version in a folder of its own, which is not on the path.
has_postgresql() {
    compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || command -v postgres >/dev/null
}

# Installs moto's own tests of KMS, which are in its sources alone.
install_moto_tests() {
    local sources=$clients/.venv/moto
    mkdir "$sources" &&
        $python -m pip download --quiet --disable-pip-version-check --no-deps --no-binary moto --require-hashes -r $clients/moto_sources.txt -d "$sources" &&
        tar xf "$sources"/moto-*.tar.gz -C "$sources" --strip-components=1 --wildcards '*/tests/__init__.py' '*/tests/conftest.py' '*/tests/test_kms' &&
        rm "$sources"/moto-*.tar.gz
}

# Installs the Python clients as locked, unless that is what is there.
install_python_clients() {
    local stamp
    stamp=$(cat $clients/requirements.txt $clients/moto_sources.txt <(python3 --version) | sha256sum)
    [ "$(cat $clients/.venv/stamp 2>/dev/null)" != "$stamp" ] || return 0
    rm -rf $clients/.venv &&
        python3 -m venv $clients/.venv &&
        $python -m pip install --quiet --disable-pip-version-check --require-hashes -r $clients/requirements.txt &&
        install_moto_tests &&
        echo "$stamp" >$clients/.venv/stamp
}

# install_apart NAME: installs what requirements-NAME.txt has as locked, in an environment of its
# own, unless that is what is there: for clients that ask for other versions than the rest has.
install_apart() {
    local home=$clients/.venv/$1 lock=$clients/requirements-$1.txt stamp
    stamp=$(cat "$lock" <(python3 --version) | sha256sum)
    [ "$(cat "$home/stamp" 2>/dev/null)" != "$stamp" ] || return 0
    rm -rf "$home" &&
        python3 -m venv "$home" &&
        "$home/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock" &&
        echo "$stamp" >"$home/stamp"
}

# Installs the JavaScript client as locked, unless that is what is there.
install_javascript_client() {
    local stamp
    stamp=$(cat $clients/package-lock.json <(node --version) | sha256sum)
    [ "$(cat $clients/node_modules/.stamp 2>/dev/null)" != "$stamp" ] || return 0
    npm ci --prefix $clients --ignore-scripts --no-audit --no-fund &&
        echo "$stamp" >$clients/node_modules/.stamp
}

# step NAME COMMAND...: runs it with its output in a log, which is shown when it fails.
step() {
    local name=$1 began=$SECONDS
    shift
    if "$@" >"$logs/$name.log" 2>&1 </dev/null; then
        passed=$((passed + 1))
        printf 'ok      %-16s %4d s\n' "$name" $((SECONDS - began))
    else
        failed=$((failed + 1))
        printf 'FAILED  %-16s %4d s; the end of %s:\n' "$name" $((SECONDS - began)) "$logs/$name.log"
        tail -n 60 "$logs/$name.log" | sed 's/^/    /'
    fi
}

# client_steps CASE [OPTION]...: runs the cases of test_steps.py that are called so. Each counts as
# a step; when pytest itself fails, that counts as one that failed.
client_steps() {
    local name=$1 log=$logs/$1.log status=0 ended failures
    shift
    $python -m pytest -v --no-header --color=no -p no:cacheprovider --durations=0 --durations-min=1 \
        "$@" "$clients/test_steps.py::$name" 2>&1 </dev/null | tee "$log" || status=$?
    # As "1 failed, 28 passed in 240.12s".
    ended=$(tail -n 1 "$log")
    passed=$((passed + $(counted passed)))
    failures=$(($(counted failed) + $(counted 'errors?')))
    [ "$status" -eq 0 ] || [ "$failures" -gt 0 ] || failures=1
    failed=$((failed + failures))
}

# How many cases pytest says have ended so.
counted() {
    grep -oP "\\d+(?= $1\\b)" <<<"$ended" || echo 0
}

# A step that the rest cannot do without.
must() {
    local before=$failed
    step "$@"
    [ "$failed" -eq "$before" ] || close
}

# take_parts 'ONE TWO' "$@": the parts of a script that were asked for; without any, all of them.
take_parts() {
    local known=$1 part
    shift
    for part in "$@"; do
        [[ " $known " == *" $part "* ]] || { echo "no part is called $part; parts: $known" >&2; exit 64; }
    done
    parts=${*:-$known}
}

asked() {
    [[ " $parts " == *" $1 "* ]]
}

set_up() {
    must programs install_programs
    must python-clients install_python_clients
    must custodian-client install_apart custodian
    must chart-client install_apart chart
    must javascript-client install_javascript_client
}

# The last lines: every client, then the count.
close() {
    echo
    cat "$CLIENT_LINES"/* 2>/dev/null || true
    echo
    echo "$passed passed, $failed failed"
    exit $((failed > 0))
}
