"""What a call may end with, beside its rows."""

import json


class KeymillError(Exception):
    """A call was refused, or came to no answer.

    `code` is the KMS error code, such as `NotFoundException`, or the name of the class where KMS
    has no code for it; `message` is the text that came with it.
    """

    def __init__(self, code: str, message: str):
        super().__init__(code, message)
        self.code, self.message = code, message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.message else self.code


class RefusedRow(KeymillError):
    """A row of the caller's table was refused.

    `row` is its number in that table, over all batches, counted from 0 as Python counts; the
    commands of `keymill` count from 1. `reason` says why, and `code` is the KMS error code, such as
    `AccessDeniedException` or `InvalidCiphertextException`. No row of the result has a key for it.
    """

    def __init__(self, row: int, reason: str, code: str):
        # An exception is pickled by its arguments: Spark and multiprocessing send them so.
        super().__init__(code, reason)
        self.args = (row, reason, code)
        self.row, self.reason = row, reason

    def __str__(self) -> str:
        return f"row {self.row}: {super().__str__()}"

    def behind(self, rows: int) -> "RefusedRow":
        """The same row of a table in which `rows` others come before the call's first one."""
        return RefusedRow(self.row + rows, self.reason, self.code)


class AccessDenied(KeymillError):
    """The caller may not do this at all; for one row it is a `RefusedRow`."""


class InvalidAnswer(KeymillError):
    """What came back is not the answer of a daemon of this version."""


class Unavailable(KeymillError):
    """The daemon cannot answer now; later it may. The client has waited for as long as it may.

    `retry_after_seconds` is what the answer's `Retry-After` asked for, or None.
    """

    def __init__(self, code: str, message: str, retry_after_seconds: float | None = None):
        super().__init__(code, message)
        self.args = (code, message, retry_after_seconds)
        self.retry_after_seconds = retry_after_seconds


class Throttled(Unavailable):
    """The caller or the KMS key is beyond its limit."""


class ConnectionLost(Unavailable, ConnectionError):
    """The daemon cannot be reached, or the connection broke and did not come back in time."""

    def __str__(self) -> str:
        return self.message


# What means "later": the codes of KMS, and the statuses of the daemon and of proxies before it.
THROTTLED = ("ThrottlingException", "Throttling")
STATUS_TOO_MANY = 429
STATUS_FAILED = 500
STATUS_UNAVAILABLE = 503


def refusal(status: int, body: bytes, retry_after_seconds: float | None = None) -> KeymillError:
    """The error of an answer whose status is not 200."""
    try:
        said = json.loads(body)
        code, message = str(said["__type"]), str(said.get("message") or said.get("Message") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        code, message = "", f"status {status}; is it a keymill daemon of this version?"
    if code in THROTTLED or status in (STATUS_TOO_MANY, STATUS_UNAVAILABLE):
        return Throttled(code or "Throttled", message, retry_after_seconds)
    if status >= STATUS_FAILED:
        return Unavailable(code or "Unavailable", message, retry_after_seconds)
    if not code:
        return InvalidAnswer("InvalidAnswer", message)
    if message.startswith("Row "):
        # `Row 5: reason`, or `Row 5.` where the code says all.
        number, colon, reason = message.removeprefix("Row ").partition(": ")
        number = number if colon else number.removesuffix(".")
        if number.isdecimal():
            return RefusedRow(int(number), reason, code)
    if code == "AccessDeniedException":
        return AccessDenied(code, message)
    return KeymillError(code, message)
