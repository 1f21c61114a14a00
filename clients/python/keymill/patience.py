"""Waiting for a daemon that is restarted, or that is asked for more than a limit allows."""

import logging
import random
import time

from keymill.errors import ConnectionLost, Unavailable

LOGGER = logging.getLogger("keymill")
# The pauses between two tries: each is twice the one before it.
PAUSE_SECONDS_MIN = 0.05
PAUSE_SECONDS_MAX = 2.0


class Patience:
    """The tries of one piece of work, for at most so many seconds from the first that failed."""

    def __init__(self, endpoint: str, seconds: float):
        self._endpoint, self._seconds = endpoint, seconds
        self._since: float | None = None
        self._pause = PAUSE_SECONDS_MIN

    def wait(self, error: Unavailable) -> None:
        """Pauses before the next try; raises `error` when there is no time left for it."""
        now = time.monotonic()
        begins = self._since is None
        since = self._since = now if self._since is None else self._since
        # Clients that fail together do not come back together.
        pause = max(self._pause * random.uniform(0.75, 1.0), error.retry_after_seconds or 0.0)
        if now + pause > since + self._seconds:
            raise error
        if begins:
            happened = "lost the daemon" if isinstance(error, ConnectionLost) else "told to wait"
            LOGGER.warning(
                "%s: %s (%s); trying again for up to %g s",
                self._endpoint,
                happened,
                error,
                self._seconds,
            )
        time.sleep(pause)
        self._pause = min(2 * self._pause, PAUSE_SECONDS_MAX)

    def rest(self) -> None:
        """The work made progress: what fails next has all of the time again."""
        if self._since is not None:
            seconds = time.monotonic() - self._since
            LOGGER.warning("%s: goes on after %.1f s", self._endpoint, seconds)
        self._since, self._pause = None, PAUSE_SECONDS_MIN
