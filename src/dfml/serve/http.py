"""Teachers and predictors as web servers (extra ``http``): from HTTP to `TeacherApi` and `PredictorApi`, and back."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dfml.errors import InputError
from dfml.files import parse_json
from dfml.nn.foreign.base import library
from dfml.serve.gate import Gate, Refusal
from dfml.serve.openapi import document
from dfml.serve.predictor_api import SUPPORT, PredictorApi
from dfml.serve.teacher_api import TeacherApi
from dfml.zoo.loaders.wire import MEDIA_TYPE

READ_SECONDS = 60.0  # that a request may take to arrive
AT_ONCE = 256  # connections
LOCAL = ("127.0.0.1", "localhost", "::1")


def web_app(api: TeacherApi) -> Any:
    """The two routes of `dfml.zoo.loaders.wire`, as an ASGI application; no pages beside them.

    Raises:
        InputError: fastapi is not installed.
    """
    fastapi, pool = library("fastapi", "http"), library("fastapi.concurrency", "http")
    app = fastapi.FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    async def info(request: Any) -> dict[str, Any]:
        return api.info()

    async def answers(request: Any) -> dict[str, Any]:
        api.gate.slow_down()
        if request.headers.get("content-type") != MEDIA_TYPE:
            raise Refusal(415, f"a body of {MEDIA_TYPE} is wanted: uint8 [n, channels, height, width] by numpy.save")
        content = await body(request, api.largest)
        return await pool.run_in_threadpool(api.answer, content)

    app.add_route("/info", guarded(api.gate, info), methods=["GET"])
    app.add_route("/answers", guarded(api.gate, answers), methods=["POST"])
    return app


def predictor_app(api: PredictorApi) -> Any:
    """Labels of image files, health, metrics and new predictors, as an ASGI application with its OpenAPI page.

    Raises:
        InputError: fastapi is not installed.
    """
    fastapi, pool = library("fastapi", "http"), library("fastapi.concurrency", "http")
    responses = library("fastapi.responses", "http")
    app = fastapi.FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    async def predict(request: Any) -> Any:
        api.gate.slow_down()
        content = await body(request, api.max_bytes)
        return await pool.run_in_threadpool(api.predict, request.path_params.get("name"), content)

    async def adapt(request: Any) -> Any:
        api.gate.slow_down()
        content = await body(request, SUPPORT * api.max_bytes // 8)
        return await pool.run_in_threadpool(api.adapt, support_of(content))

    async def metrics(_: Any) -> Any:
        return responses.PlainTextResponse(api.metrics())

    async def health(_: Any) -> Any:
        return responses.JSONResponse({"status": "ok", "classes": list(api.main.classifier.class_names)})

    async def openapi(_: Any) -> Any:
        return responses.JSONResponse(document(key=api.gate.keyed))

    app.add_route("/openapi.json", openapi, methods=["GET"])
    app.add_route("/health", health, methods=["GET"])
    app.add_route("/metrics", metrics, methods=["GET"])
    app.add_route("/predict", guarded(api.gate, predict), methods=["POST"])
    app.add_route("/predictors/{name}/predict", guarded(api.gate, predict), methods=["POST"])
    app.add_route("/adapt", guarded(api.gate, adapt), methods=["POST"])
    return app


def support_of(content: bytes) -> dict[str, list[str]]:
    """The classes of a request to adapt.

    Raises:
        Refusal: another thing than an object of lists of texts.
    """
    try:
        classes = parse_json(content)["classes"]
        if not all(isinstance(t, str) for files in classes.values() for t in files):
            raise TypeError
        return {str(name): list(files) for name, files in classes.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refusal(400, 'a body {"classes": {"name": ["image file in base64", ...], ...}} is wanted') from error


def guarded(gate: Gate, route: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A route behind a gate: what it gives as JSON, or why there is no answer."""
    responses = library("fastapi.responses", "http")

    async def guard(request: Any) -> Any:
        try:
            gate.admit(request.headers.get("authorization"))
            return responses.JSONResponse(await route(request))
        except Refusal as refusal:
            gate.refused()
            headers = {"Retry-After": str(refusal.wait)} if refusal.wait else {}
            headers |= {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
            return responses.JSONResponse({"error": refusal.why}, refusal.status, headers)

    return guard


async def body(request: Any, largest: int) -> bytes:
    """The body of a request, read no further than it may be long, nor longer than it may take."""
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > largest:
        raise Refusal(413, f"{length} bytes; {largest} at most")
    content, gone = bytearray(), library("starlette.requests", "http").ClientDisconnect
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for part in request.stream():
                content += part
                if len(content) > largest:
                    raise Refusal(413, f"more than {largest} bytes")
    except gone as error:  # nobody reads this; it is counted, and no fault of the server
        raise Refusal(400, "the caller hung up") from error
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
        raise InputError(
            f"host {host} without a key",
            "a key, where others can reach the server",
            "give a key: --key-file, or DFML_SERVE_KEY",
        )


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
