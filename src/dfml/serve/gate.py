"""Who may ask a server, how often, and how often they did."""

import hashlib
import hmac
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field


class Refusal(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        why: for whoever asked.
        wait: seconds to wait before the next.
    """

    def __init__(self, status: int, why: str, wait: int | None = None):
        super().__init__(why)
        self.status, self.why, self.wait = status, why, wait


@dataclass
class Counts:
    """What a server was asked so far.

    Args:
        requests: of any kind.
        images: that the teacher was asked about.
        repeated: images of requests that came again and were answered from memory; not among ``images``.
        refused: requests without an answer.
    """

    requests: int = 0
    images: int = 0
    repeated: int = 0
    refused: int = 0


@dataclass
class Rate:
    """A bucket of tokens: so many requests a second, and those of one second at once.

    Args:
        per_second: requests.
        clock: in seconds.
    """

    per_second: float
    clock: Callable[[], float] = time.monotonic
    _left: float = field(init=False)
    _at: float = field(init=False)

    def __post_init__(self):
        self._left, self._at = self._most, self.clock()

    @property
    def _most(self) -> float:
        return max(1.0, self.per_second)

    def wait(self) -> float:
        """Take a token; or the seconds until there is one."""
        now = self.clock()
        self._left = min(self._most, self._left + (now - self._at) * self.per_second)
        self._at = now
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) / self.per_second


class Gate:
    """What stands before the routes of a server.

    Args:
        key: that callers must show; empty is none.
        rate: requests a second; None is no bound.
    """

    def __init__(self, key: str = "", rate: float | None = None):
        self.counts = Counts()
        self.lock = threading.Lock()
        self._key = hashlib.sha256(key.encode()).digest() if key else None
        self._rate = Rate(rate) if rate else None

    @property
    def keyed(self) -> bool:
        """Whether callers must show a key."""
        return self._key is not None

    def admit(self, authorization: str | None) -> None:
        """Count a request, and check its key.

        Raises:
            Refusal: a wrong key, or none.
        """
        with self.lock:
            self.counts.requests += 1
        given = (authorization or "").removeprefix("Bearer ").encode()
        if self._key and not hmac.compare_digest(hashlib.sha256(given).digest(), self._key):
            raise Refusal(401, "a key is wanted, as 'Authorization: Bearer KEY'")

    def slow_down(self) -> None:
        """Check the rate.

        Raises:
            Refusal: too many requests, and when the next is welcome.
        """
        with self.lock:
            wait = self._rate.wait() if self._rate else 0.0
        if wait:
            raise Refusal(429, "too many requests", math.ceil(wait))

    def refused(self) -> None:
        """Count a request without an answer."""
        with self.lock:
            self.counts.refused += 1
