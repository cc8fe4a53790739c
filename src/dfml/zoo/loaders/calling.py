"""How a model behind an address is called: one request, tried until it is answered or patience is at an end."""

import os
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from dfml.consent import give_consent, has_consent
from dfml.errors import InputError, NoAnswer, NotAtHand
from dfml.files import parse_json
from dfml.nn.foreign.base import library
from dfml.plain import check_types
from dfml.zoo.card import CALLED
from dfml.zoo.loaders.wire import MEDIA_TYPE, Malformed

PATIENCE = 120.0  # seconds that a request may take, with all its tries
ONE_TRY = 60.0  # of them for one, and 10 to reach the server
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0  # seconds before another try; doubled, and up to a half taken off by chance
AGAIN = (408, 425, 429, 500, 502, 503, 504)  # answers of servers that may do better later
SHOWN = 200  # characters of what a server says that a message repeats
INFO_BYTES = 16 * 2**20
SEE = "see whether the server is well, what it logs, and whether the address and the key are right"


@dataclass(frozen=True)
class Call:
    """How a model is called.

    Args:
        url: of its server.
        key_from: the environment variable that holds the key; None where none is wanted. The key is read whenever it is
            sent, and written nowhere.
        budget: images that may be asked in all; None is no bound.
        patience: seconds that a request may take, with all its tries.

    Raises:
        InputError: no address, or one that holds a key.
    """

    url: str
    key_from: str | None = None
    budget: int | None = None
    patience: float = PATIENCE

    def __post_init__(self):
        try:
            parts = urlsplit(self.url)
            sound = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
        except ValueError:
            sound = False
        if not sound or parts.username or parts.password or parts.query or parts.fragment:
            shown = re.sub(r"//[^/]*@", "//...@", self.url.partition("?")[0])
            raise InputError(
                f"address {shown!r} of a model's server",
                "http://HOST:PORT or https://HOST/PATH, without user, password or query",
                "put the key into an environment variable, and name that (--key-from)",
            )
        if (self.budget is not None and self.budget < 1) or not self.patience > 0:
            raise InputError(f"budget {self.budget} and patience {self.patience}", "positive numbers", "correct them")

    @staticmethod
    def of_options(options: Mapping[str, Any]) -> "Call":
        """From the options of a card.

        Raises:
            InputError: they are not those of a call.
        """
        try:
            check_types(Call, dict(options))
            return Call(**options)
        except TypeError as error:
            raise InputError(
                f"options {dict(options)} of a model behind an address ({error})",
                "url, key_from, budget and patience",
                "correct them with `dfml zoo edit ZOO ID --set options.url=...`",
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """As a card's options."""
        return {"url": self.url, "key_from": self.key_from, "budget": self.budget, "patience": self.patience}

    @property
    def what(self) -> str:
        """It does, for people."""
        key = f", with the key in your environment variable {self.key_from}" if self.key_from else ""
        return f"images are sent to {self.url}{key}"

    def consent(self) -> None:
        """Remember that the user wants this server to be called, with this key."""
        give_consent(self._code, self.what)

    def require_consent(self) -> None:
        """A zoo from elsewhere does not choose who is sent a key of the user's.

        Raises:
            NotAtHand: the user has not agreed.
        """
        if not has_consent(self._code):
            raise NotAtHand(
                f"a model that is behind an address: {self.what}",
                "your consent, because whoever made the zoo chose the address and the variable",
                "if you trust them, `dfml trust FOLDER`",
            )

    @property
    def _code(self) -> dict[str, Any]:
        return {"source": CALLED, "options": {"url": self.url, "key_from": self.key_from}}

    def key(self) -> str:
        """The key; empty where none is wanted.

        Raises:
            InputError: the variable is not set, or holds no key; the message does not repeat it.
        """
        if self.key_from is None:
            return ""
        key = os.environ.get(self.key_from, "").strip()
        if not re.fullmatch(r"[!-~]+", key):
            raise InputError(
                f"environment variable {self.key_from}, {'which holds no key' if key else 'which is not set or empty'}",
                f"the key of {self.url}, printable characters without spaces",
                f"export {self.key_from}=...",
            )
        return key


class Line:
    """A connection to a model's server, inside ``with``.

    Args:
        call: how.
        teacher: id of the model, for messages.
    """

    def __init__(self, call: Call, teacher: str):
        self.call, self.teacher, self._key = call, teacher, call.key()
        self._library = library("httpx2", "http")
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        timeout = self._library.Timeout(min(ONE_TRY, call.patience), connect=min(10.0, call.patience))
        self._client = self._library.Client(headers=headers, timeout=timeout, follow_redirects=False)

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, path: str, content: bytes | None = None, *, largest: int = INFO_BYTES) -> Any:
        """The JSON that the server gives to a request; to a GET where there is no content.

        What may pass is tried again, after a pause that grows, or that the server asks for.

        Args:
            path: below the address.
            content: an array of images.
            largest: bytes of the answer.

        Raises:
            NoAnswer: it refuses, is not there for as long as patience lasts, or what it gives is no JSON.
        """
        start, pause = time.monotonic(), FIRST_PAUSE
        while True:
            end = start + self.call.patience
            status, wait, body = self._once(path, content, largest, end)
            if status == 200:
                return self._json(body)
            said = f"the server answers {status}{self._shown(body)}" if status else self._shown(body)[2:]
            if status and status not in AGAIN:
                raise self.no_answer(said)
            wait = max(wait or 0.0, pause * random.SystemRandom().uniform(0.5, 1.0))
            if time.monotonic() + wait >= end:
                asks = f", and asks to wait for {wait:.0f} seconds" if wait > LONGEST_PAUSE else ""
                raise self.no_answer(f"{said}{asks} ({time.monotonic() - start:.0f} seconds of tries)")
            time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _once(self, path: str, content: bytes | None, largest: int, end: float) -> tuple[int, float | None, bytes]:
        """Status, seconds that the server asks to wait for, and what it says; status 0 where it cannot be reached."""
        headers = {"Content-Type": MEDIA_TYPE} if content is not None else {}
        request = ("GET" if content is None else "POST", self.call.url.rstrip("/") + path)
        try:
            with self._client.stream(*request, content=content, headers=headers) as said:
                body = bytearray()
                for part in said.iter_bytes():
                    body += part
                    if len(body) > largest:
                        raise self.no_answer(f"an answer of more than {largest:,} bytes")
                    if time.monotonic() > end:
                        return 0, None, b"an answer that does not end"
                return said.status_code, _seconds(said.headers.get("Retry-After")), bytes(body)
        except (self._library.RequestError, self._library.InvalidURL) as error:
            return 0, None, f"the server cannot be asked ({type(error).__name__}: {error})".encode()

    def _json(self, body: bytes) -> Any:
        try:
            return parse_json(body)
        except ValueError as error:
            raise self.no_answer(f"an answer that is no JSON{self._shown(body)}") from error

    def _shown(self, body: bytes) -> str:
        """The beginning of what a server says, on a line, without the key."""
        text = body[: 4 * SHOWN].decode("utf-8", "replace")
        text = text.replace(self._key, "...") if self._key else text
        text = "".join(c if c.isprintable() else " " for c in text)[:SHOWN].strip()
        return f": {text}" if text else ""

    def no_answer(self, reason: str | Malformed) -> NoAnswer:
        """An error about this model."""
        return NoAnswer(self.teacher, f"{reason} [{self.call.url}]", SEE)


def _seconds(text: str | None) -> float | None:
    """Of a Retry-After in seconds; a date is left to the pauses."""
    return float(text) if text and re.fullmatch(r"\d{1,6}(\.\d+)?", text.strip()) else None
