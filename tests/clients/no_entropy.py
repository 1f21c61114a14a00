"""The operating system's generator fails under a running daemon: it says so where it is asked, and heals by itself.

strace lets each getrandom of every thread, old and new, end with EIO.
"""

import subprocess
import time
import urllib.error
import urllib.request

import botocore.exceptions
from daemon import ALIAS, Tally, admin_address, report, running, wait_until

# Scrapes that must be answered while it lasts, each on a connection of its own.
SCRAPES = 20
FAILURES = "keymill_entropy_failures_total"


def scrape(daemon) -> str:
    with urllib.request.urlopen(f"{admin_address(daemon.facts)}/metrics", timeout=30) as answer:
        assert answer.status == 200, answer.status
        return answer.read().decode()


def main() -> None:
    tally = Tally()
    # Without a pool each key takes a draw of its own.
    with running(overrides={"KEYMILL_POOL__ENABLED": "false"}) as mill:
        provisioner = mill.client("provisioner", tally)
        make = lambda: provisioner.generate_data_key_without_plaintext(KeyId=ALIAS, KeySpec="AES_256")  # noqa: E731
        make()
        # Not scraped before: whatever a scrape draws for the first time fails.
        command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=getrandom", "-e", "inject=getrandom:error=EIO"]
        tracer = subprocess.Popen([*command, "-p", str(mill.process.pid)])
        try:
            wait_until(lambda: "TracerPid:\t0" not in traced(mill), 30, "strace to attach")
            time.sleep(1)
            for _ in range(3):
                try:
                    make()
                except botocore.exceptions.ClientError as error:
                    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                    assert status == 500, error.response
                else:
                    raise AssertionError("a key was made without a draw")
            for _ in range(SCRAPES):
                text = scrape(mill)
            failed = [line for line in text.splitlines() if line.startswith(f"{FAILURES} ")]
            assert failed and float(failed[0].split()[1]) > 0, failed
        finally:
            tracer.terminate()
            tracer.wait()
        # The client repeats it until the source is back.
        make()
        assert "panicked" not in mill.log.read_text(errors="replace"), mill.tail()
    report("Without entropy", "EIO", tally.calls + SCRAPES)


def traced(mill) -> str:
    with open(f"/proc/{mill.process.pid}/status") as status:
        return status.read()


if __name__ == "__main__":
    main()
