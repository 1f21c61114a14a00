"""The client steps of tests/run. Each is one line below, one case here, and a program by itself.

    PYTHON=tests/clients/.venv/bin/python
    $PYTHON -m pytest -n 2 tests/clients/test_steps.py -k "test_beside_another and boto3"
    $PYTHON tests/clients/boto3_client.py

A line is a name, a file of this folder, and its arguments. What a step prints is in a log of its
own, whose end is shown when the step fails.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CLIENTS = Path(__file__).resolve().parent
ROOT = CLIENTS.parents[1]
LOGS = Path(os.environ.get("CLIENT_LOGS", ROOT / "target" / "tmp" / "logs"))
# Steps take up to a few minutes. One that has not ended by then hangs.
STEP_SECONDS_MAX = 15 * 60
# What a step has for ending its daemons once it is told to.
ENDING_SECONDS_MAX = 60
TAIL_LINES = 60

# These run two at a time: each has daemons and folders of its own, on ports that the kernel picks.
# Those that take longest come first, so that no long one is left for the end.
BESIDE_ANOTHER = """
bounds           bounds.py
crash            crash.py
kills            kills.py
readers          readers.py
public-files     public_files.py
operations       operations.py
container-list   container_list.py
provision        provision.py
moto-suite       moto_suite.py
ansible          ansible_keys.py
import-key       import_key.py
aws-cli          aws_cli.py
debian-package   debian_package.py
audit            audit.py
store            store.py
backup-drill     backup_drill.py
fleet            fleet.py
fleet-hosts      fleet_hosts.py
fleet-moves      fleet_moves.py
fleet-deposed    fleet_deposed.py
fleet-jobs       fleet_jobs.py
chart            chart.py
fleet-key-stores fleet_key_stores.py
fleet-nonces     fleet_nonces.py 1000000
bind             bind.py
arrow-writers    arrow_writers.py
object-store     object_store.py
store-out        store_out.py
model-fuzz       model_fuzz.py
fuzz-regions     model_fuzz.py regions 2500
fuzz-china       model_fuzz.py china 2500
fuzz-stores      model_fuzz.py stores 2500
python-package   python_package.py
python-waits     python_waits.py
prometheus       prometheus.py
folders          folders.py
hive             hive.py
copies           copies.py
foreign-tables   foreign_tables.py
tls              tls.py
xks              xks.py
custom-key-stores custom_key_stores.py
encryption-sdk   encryption_sdk.py
multi-region     multi_region.py
rewrap           rewrap.py
readme           tour.py README.md
lake-tables      tour.py docs/readers.md
pages            tour.py docs/storage-developer.md docs/data-engineer.md clients/python/README.md docs/operator.md docs/security-reviewer.md docs/xks.md
dev-prints       tour.py
integrations     integrations.py
dev-rights       dev_rights.py
systemd          systemd_unit.py
service-manager  service_manager.py
boto3            boto3_client.py
post-quantum     post_quantum.py
grants           grants.py
rotation         rotation.py
sessions         sessions.py
sts              sts.py
assume-role      assume_role.py
web-identity     web_identity.py
recipient        recipient.py
pods             pods.py
tagging          tagging.py
javascript       daemon.py node tests/clients/sdk_js.mjs
javascript-v2    daemon.py node tests/clients/sdk_js_v2.mjs
arrow-js         daemon.py node tests/clients/arrow_streams.mjs
ethereum         daemon.py node tests/clients/ethereum.mjs
noble            daemon.py node tests/clients/post_quantum.mjs
hsm              hsm.py
shares           daemon.py node tests/clients/shares.mjs
unsigned-type    unsigned_content_type.py
signing-tools    signing_tools.py
tink             tink_aead.py
kafka-fields     kafka_fields.py
custodian        custodian.py
credstash        credstash_cli.py
mongocrypt       mongocrypt.py
china            china.py
parquet          parquet_encryption.py
unix-socket      unix_socket.py
foreign-uid      foreign_uid.py
durability       durability.py
no-entropy       no_entropy.py
entropy          entropy.py
"""

# These need both cores: they hold rates, waits or shares of pooled keys to a bound, look for a race
# between two threads, or keep both cores busy under short time limits.
ALONE = """
throttle         throttle.py
patience         patience.py
key-types        key_types.py
hits             hits.py
fence            fence.py
mutations        mutations.py
"""


def steps(table: str):
    """One case for each line of a table."""
    lines = [line.split() for line in table.strip().splitlines()]
    cases = [pytest.param(name, command, id=name) for name, *command in lines]
    return pytest.mark.parametrize(("name", "command"), cases)


def run(name: str, command: list[str]) -> None:
    """Runs a step to its end; fails with the end of its log unless the step ended well."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{name}.log"
    # moto-suite runs a pytest of its own, which is not a part of this one.
    variables = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    with log.open("wb") as output:
        step = subprocess.Popen(
            [sys.executable, CLIENTS / command[0], *command[1:]],
            cwd=ROOT, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )
        try:
            ended = f"exit status {step.wait(STEP_SECONDS_MAX)}"
        except subprocess.TimeoutExpired:
            ended = f"not ended within {STEP_SECONDS_MAX} s"
        finally:
            end(step)
    if ended != "exit status 0":
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
        pytest.fail(f"{name}: {ended}; the end of {log}:\n{tail}", pytrace=False)


def end(step: subprocess.Popen) -> None:
    """Ends a step that still runs: with a signal that it ends its daemons on, then at once."""
    step.terminate()
    try:
        step.wait(ENDING_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        step.kill()
        step.wait()


@steps(BESIDE_ANOTHER)
def test_beside_another(name: str, command: list[str]) -> None:
    run(name, command)


@steps(ALONE)
def test_alone(name: str, command: list[str]) -> None:
    run(name, command)
