"""Limits: an SDK that retries gets all of its keys at the rate of its limit, others are not slowed, and a limited batch comes at its rate.

What is asserted of time are the bounds that the limit itself sets; figures of speed are printed.
"""

import statistics
import subprocess
import time

import boto3
import botocore.config
import daemon
from daemon import ALIAS, BLOB_BYTES, Daemon, Tally, refused, running

KEYS_PER_SECOND = 50
KEYS = 200
BULK_PER_SECOND = 1_000_000
BULK_KEYS = 3_000_000
# Retries in standard mode pause for up to a second, then two, …: what takes longer than this has
# lost keys that it was due.
SECONDS_MAX = 20
TOO_FAST = "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."


def limit(mill: Daemon, keys_per_second: int) -> None:
    """Limits the provisioner as an operator would: with a line in the file, and a restart."""
    assert mill.stop() == 0
    file = mill.state / "keymill.toml"
    text = file.read_text().split("\n[rates")[0]
    arn = mill.principal("provisioner")["arn"]
    unknown = arn.replace("provisioner", "nobody")
    file.write_text(f'{text}\n[rates.principals]\n"{arn}" = {keys_per_second}\n"{unknown}" = 1\n')
    mill.start()
    assert f'names a principal that does not exist arn="{unknown}"' in mill.tail(), mill.tail()


def client(mill: Daemon, role: str, tally: Tally, attempts: int):
    """A boto3 client in standard retry mode."""
    principal = mill.principal(role)
    config = botocore.config.Config(retries={"mode": "standard", "total_max_attempts": attempts})
    made = boto3.client(
        "kms", endpoint_url=mill.endpoint, config=config, region_name=mill.facts["region"],
        aws_access_key_id=principal["access_key_id"], aws_secret_access_key=principal["secret_access_key"],
    )
    made.meta.events.register("after-call.kms", tally.count)
    return made


def mint(kms, keys: int) -> tuple[list[float], int]:
    """Asks for so many keys, one a call; how long each call took, and how often the SDK retried."""
    seconds, retries, blobs = [], 0, set()
    for _ in range(keys):
        began = time.monotonic()
        answer = kms.generate_data_key_without_plaintext(KeyId=ALIAS, KeySpec="AES_256")
        seconds.append(time.monotonic() - began)
        retries += answer["ResponseMetadata"]["RetryAttempts"]
        blobs.add(answer["CiphertextBlob"])
    assert len(blobs) == keys, "a data key came twice"
    return seconds, retries


def an_sdk_gets_all_of_its_keys(mill: Daemon, tally: Tally) -> None:
    limit(mill, KEYS_PER_SECOND)
    began = time.monotonic()
    _, retries = mint(client(mill, "provisioner", tally, 10), KEYS)
    took = time.monotonic() - began
    due = (KEYS - KEYS_PER_SECOND) / KEYS_PER_SECOND
    print(f"{KEYS} keys at {KEYS_PER_SECOND} a second: {took:.1f} s (at the least {due:.1f}), {retries} retries")
    assert due <= took <= SECONDS_MAX, took
    throttled = mill.metric("keymill_throttled_total", scope="principal")
    assert retries == throttled > 0, f"{throttled} refusals"

    # Without retries the refusal itself is seen; another principal sees nothing of it.
    impatient = client(mill, "provisioner", tally, 1)
    try:
        mint(impatient, 2 * KEYS)
    except impatient.exceptions.ClientError as error:
        said = error.response
        assert said["Error"] == {"Code": "ThrottlingException", "Message": TOO_FAST}, said
        assert said["ResponseMetadata"]["HTTPStatusCode"] == 400, said
    else:
        raise AssertionError("nobody was refused")
    began = time.monotonic()
    _, retries = mint(client(mill, "admin", tally, 1), KEYS)
    print(f"{KEYS} keys of another principal: {time.monotonic() - began:.2f} s")
    assert retries == 0
    # A denied call is no throttled one, and costs nobody a key.
    consumer = client(mill, "consumer", tally, 1)
    refused("AccessDeniedException", None, consumer.generate_data_key_without_plaintext, KeyId=ALIAS, KeySpec="AES_256")


def percentiles(seconds: list[float]) -> str:
    hundredths = statistics.quantiles(seconds, n=100)
    return f"p50 {hundredths[49] * 1000:.2f} ms, p99 {hundredths[98] * 1000:.2f} ms"


def a_limited_batch_leaves_others_alone(mill: Daemon, tally: Tally) -> None:
    limit(mill, BULK_PER_SECOND)
    admin = client(mill, "admin", tally, 1)
    mint(admin, 50)
    alone, _ = mint(admin, 500)
    # On the Unix socket the starter is the provisioner.
    ask = f'{{"KeyId":"{ALIAS}","KeySpec":"AES_256","Count":{BULK_KEYS}}}'
    command = ["curl", "--silent", "--show-error", "--fail", "--unix-socket", mill.socket, "http://localhost/v1/data-keys", "-d", ask]
    command += ["-H", "Accept: application/octet-stream", "--output", "/dev/null", "--write-out", "%{size_download}"]
    began, beside = time.monotonic(), []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stream:
        while stream.poll() is None:
            beside += mint(admin, 20)[0]
        took = time.monotonic() - began
        said = stream.stdout.read()
    assert stream.returncode == 0 and int(said) == BULK_KEYS * BLOB_BYTES, said
    due = (BULK_KEYS - BULK_PER_SECOND / 2) / BULK_PER_SECOND
    print(f"a batch of {BULK_KEYS:,} keys at {BULK_PER_SECOND:,} a second: {took:.1f} s (at the least {due:.1f})")
    print(f"single requests of another principal: {percentiles(alone)}; beside the batch, {len(beside)} of them: {percentiles(beside)}")
    assert took >= due, took
    assert mill.metric("keymill_throttled_total") == 0, "a batch waits, and nobody else has a limit"


def main() -> None:
    tally = Tally()
    with running() as mill:
        an_sdk_gets_all_of_its_keys(mill, tally)
        a_limited_batch_leaves_others_alone(mill, tally)
    daemon.report("boto3 against limits", boto3.__version__, tally.calls)


if __name__ == "__main__":
    main()
