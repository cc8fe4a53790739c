"""Servers of toy teachers on ports that the system chooses, and ways in which a server can be sick."""

import asyncio
import socket
from contextlib import ExitStack, contextmanager

from dfml.serve.http import served, web_app
from dfml.serve.teacher_api import TeacherApi
from toys import toy_teacher


class Sick:
    """An application whose answers to images go wrong while ``illness`` is set.

    Args:
        app: the sound one.
    """

    def __init__(self, app):
        self.app, self.illness, self.asked = app, None, 0

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["path"] != "/answers":
            await self.app(scope, receive, send)
            return
        self.asked += 1
        if self.illness == "slow":
            await asyncio.sleep(0.2)
        elif self.illness == "busy" and self.asked % 3:
            await _say(send, 429, b'{"error": "busy"}', retry="0.05")
            return
        elif self.illness == "failing":
            await _say(send, 500, b"oh no")
            return
        elif self.illness == "garbage":
            await _say(send, 200, b"<html>welcome</html>")
            return
        elif self.illness == "nan":
            await _say(send, 200, b'{"probabilities": [[NaN, NaN, NaN]]}')
            return
        elif self.illness == "lossy":  # the answer is made and paid for, and lost on the way
            self.illness = None
            await self.app(scope, receive, _nowhere)
            await _say(send, 503, b"gateway")
            return
        await self.app(scope, receive, send)


async def _nowhere(message):
    return None


async def _say(send, status, body, retry=None):
    headers = [(b"retry-after", retry.encode())] if retry else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Server:
    """A toy teacher that is served while `up`."""

    def __init__(self, seed=0, names=("a", "b", "c"), **options):
        self.teacher = toy_teacher(f"t{seed}", tuple(names), seed=seed)
        self.api = TeacherApi(self.teacher, **options)
        self.sick, self.port, self._stack = Sick(web_app(self.api)), 0, ExitStack()

    def up(self):
        """Start it, where it was before."""
        self.url = self._stack.enter_context(served(self.sick, port=self.port))
        self.port = int(self.url.rpartition(":")[2])
        return self

    def down(self):
        self._stack.close()


@contextmanager
def server(seed=0, **options):
    made = Server(seed, **options).up()
    try:
        yield made
    finally:
        made.down()


def unused_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
