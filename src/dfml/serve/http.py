"""A teacher as a web server (extra ``http``): the way from HTTP to `TeacherApi` and back."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dfml.errors import InputError
from dfml.nn.foreign.base import library
from dfml.serve.teacher_api import Refusal, TeacherApi
from dfml.zoo.loaders.wire import MEDIA_TYPE

READ_SECONDS = 60.0  # that a request may take to arrive
AT_ONCE = 64  # connections
LOCAL = ("127.0.0.1", "localhost", "::1")


def web_app(api: TeacherApi) -> Any:
    """The two routes of `dfml.zoo.loaders.wire`, as an ASGI application; no pages beside them.

    Raises:
        InputError: fastapi is not installed.
    """
    fastapi = library("fastapi", "http")
    responses, pool = library("fastapi.responses", "http"), library("fastapi.concurrency", "http")
    app = fastapi.FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    async def info(request: Any) -> dict[str, Any]:
        return api.info()

    async def answers(request: Any) -> dict[str, Any]:
        api.slow_down()
        if request.headers.get("content-type") != MEDIA_TYPE:
            raise Refusal(415, f"a body of {MEDIA_TYPE} is wanted: uint8 [n, channels, height, width] by numpy.save")
        content = await _body(request, api.largest)
        return await pool.run_in_threadpool(api.answer, content)

    def guarded(route: Callable[[Any], Any]) -> Callable[[Any], Any]:
        async def guard(request: Any) -> Any:
            try:
                api.admit(request.headers.get("authorization"))
                return responses.JSONResponse(await route(request))
            except Refusal as refusal:
                api.refused()
                headers = {"Retry-After": str(refusal.wait)} if refusal.wait else {}
                return responses.JSONResponse({"error": refusal.why}, refusal.status, headers)

        return guard

    app.add_route("/info", guarded(info), methods=["GET"])
    app.add_route("/answers", guarded(answers), methods=["POST"])
    return app


async def _body(request: Any, largest: int) -> bytes:
    """The body, read no further than it may be long, nor longer than it may take."""
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > largest:
        raise Refusal(413, f"{length} bytes; {largest} at most")
    content = bytearray()
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for part in request.stream():
                content += part
                if len(content) > largest:
                    raise Refusal(413, f"more than {largest} bytes")
    except TimeoutError as error:
        raise Refusal(408, f"a request of more than {READ_SECONDS:.0f} seconds") from error
    return bytes(content)


def listening(host: str, port: int) -> socket.socket:
    """A socket at an address; port 0 lets the system choose.

    Raises:
        InputError: it is taken, or not this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"{host}:{port} cannot be listened at ({error})", "a free port of this machine", "choose another, or port 0"
        ) from error


def check_guarded(host: str, key: str) -> None:
    """Refuse a server without a key that other machines can reach.

    Raises:
        InputError: it says so.
    """
    if host not in LOCAL and not key:
        raise InputError(f"host {host} without a key", "a key, where others can reach the server", "give a key")


def address(sock: socket.socket) -> str:
    """As callers write it."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(app: Any, sock: socket.socket) -> None:
    """Serve until a signal comes.

    Raises:
        InputError: uvicorn is not installed.
    """
    _server(app).run(sockets=[sock])


@contextmanager
def served(app: Any, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve in a thread, inside; gives the address."""
    with listening(host, port) as sock:
        server = _server(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        try:
            yield address(sock)
        finally:
            server.should_exit = True
            thread.join()


def _server(app: Any) -> Any:
    uvicorn = library("uvicorn", "http")
    options = {"log_level": "warning", "access_log": False, "limit_concurrency": AT_ONCE, "server_header": False}
    return uvicorn.Server(uvicorn.Config(app, **options, timeout_graceful_shutdown=5))
