"""With warm lanes at least 99 of 100 data keys come from the pool; with the pool off the same run passes without asking it."""

import boto3
from boto3_client import ask_and_open
from daemon import Daemon, Tally, new_key, report, running, wait_until

ROUNDS = 150
HIT_RATE_MIN = 0.99


def handed_out(mill: Daemon) -> list[float]:
    """Hits, misses, and keys for which no lane was asked, so far."""
    return [mill.metric("keymill_data_keys_total", result=result) for result in ("hit", "miss", "direct")]


def warm(mill: Daemon, arn: str, tally: Tally) -> None:
    """A lane begins with its first miss; waits until it has stopped filling."""
    mill.client("provisioner", tally).generate_data_key_without_plaintext(KeyId=arn, KeySpec="AES_256")
    lane = arn.split("/")[-1]

    def depth() -> float:
        return sum(value for series, value in mill.metrics().items() if series.startswith("keymill_pool_depth{") and lane in series)

    wait_until(lambda: depth() >= 1024, 30, "a lane that fills")


def run(overrides: dict[str, str], tally: Tally) -> list[float]:
    """The same of the client run."""
    with running(overrides) as mill:
        names = new_key(mill, "alias/hits", tally)
        if not overrides:
            warm(mill, names[1], tally)
        before = handed_out(mill)
        ask_and_open(mill, names, ROUNDS, tally)
        after = handed_out(mill)
    return [late - early for early, late in zip(before, after, strict=True)]


def main() -> None:
    tally = Tally()
    asked = ROUNDS * 4 * 2
    hits, misses, direct = run({}, tally)
    print(f"warm lanes: {hits:.0f} hits, {misses:.0f} misses, {direct:.0f} direct")
    assert hits + misses + direct == asked, f"{asked} data keys were asked for"
    assert hits >= HIT_RATE_MIN * asked, "less than 99 % hits"
    hits, misses, direct = run({"KEYMILL_POOL__ENABLED": "false"}, tally)
    print(f"pool off: {hits:.0f} hits, {misses:.0f} misses, {direct:.0f} direct")
    assert (hits, misses, direct) == (0, 0, asked), "with the pool off no data key is a miss"
    report("boto3 with a warm pool and without one", boto3.__version__, tally.calls)


if __name__ == "__main__":
    main()
