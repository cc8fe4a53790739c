"""Commands that serve."""

import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from dfml.cli.show import say
from dfml.errors import InputError
from dfml.files import regular, visible

if TYPE_CHECKING:
    from dfml.serve.gate import Counts

KEY = "DFML_SERVE_KEY"


def serve_teacher(
    zoo: Positional[str],
    model: Positional[str],
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 8600,
    answers: Literal["probabilities", "labels"] = "probabilities",
    top: int | None = None,
    decimals: int = 4,
    key_file: Path | None = None,
    rate: str | None = None,
    max_side: int = 512,
    max_images: int = 64,
) -> None:
    """Let others ask one model of a zoo over HTTP, for its answers and nothing else; until it is stopped.

    Callers need a key where there is one: in the environment variable DFML_SERVE_KEY, or in a file.

    Args:
        zoo: its folder, or ``glyphs``.
        model: its id.
        host: that is listened at; 0.0.0.0 lets other machines ask, with a key.
        port: 0 lets the system choose.
        answers: what it gives.
        top: so many of the largest probabilities alone.
        decimals: that probabilities are rounded to.
        key_file: holds the key.
        rate: requests, as ``5/s`` or ``100/min``; more are sent away for a while.
        max_side: of images in pixels.
        max_images: of a request.
    """
    from dfml.serve.http import check_guarded, web_app
    from dfml.serve.teacher_api import TeacherApi
    from dfml.zoo import Zoo

    key = _key(key_file)
    check_guarded(host, key)
    teacher = Zoo.open(zoo).teacher(model)
    bounds = {"rate": _per_second(rate), "max_side": max_side, "max_images": max_images}
    api = TeacherApi(teacher, answers=answers, top=top, decimals=decimals, key=key, **bounds)  # type: ignore[arg-type]
    _serve(model, web_app(api), api.gate.counts, host, port, guarded=bool(key))


def serve_predictor(
    predictor: Positional[Path],
    /,
    *,
    learner: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8500,
    key_file: Path | None = None,
    rate: str | None = None,
    max_bytes: int = 10_000_000,
) -> None:
    """Answer for images over HTTP by a predictor: label and probabilities; until it is stopped.

    ``curl --data-binary @image.jpg http://127.0.0.1:8500/predict``. Also /health, /metrics for Prometheus and
    /openapi.json, and with a learner POST /adapt, which makes a new predictor of a few images. Callers need a key where
    there is one: in the environment variable DFML_SERVE_KEY, or in a file.

    Args:
        predictor: its folder, as `dfml adapt` writes it.
        learner: a run, a learner's files or a zoo, that adapts to callers' tasks.
        host: that is listened at; 0.0.0.0 lets other machines ask, with a key.
        port: 0 lets the system choose.
        key_file: holds the key.
        rate: requests, as ``5/s`` or ``100/min``; more are sent away for a while.
        max_bytes: of an image file.
    """
    from dfml.learners.predictor_file import load_predictor
    from dfml.runs.load import load
    from dfml.serve.http import check_guarded, predictor_app
    from dfml.serve.predictor_api import PredictorApi

    key = _key(key_file)
    check_guarded(host, key)
    adapting = load(learner) if learner else None
    options = {"learner": adapting, "key": key, "rate": _per_second(rate), "max_bytes": max_bytes}
    api = PredictorApi(load_predictor(predictor), **options)  # type: ignore[arg-type]
    _serve(predictor, predictor_app(api), api.gate.counts, host, port, guarded=bool(key))


def app(
    learner: Positional[Path],
    /,
    *,
    zoo: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8700,
    key_file: Path | None = None,
    max_bytes: int = 50_000_000,
) -> None:
    """Open a page for the browser: name classes, drop a few images of each, and ask about others; until it is stopped.

    Nothing leaves this machine. The page asks for a key where there is one: in the environment variable DFML_SERVE_KEY,
    or in a file.

    Args:
        learner: a run folder, a learner's files or a zoo, whose networks then all look at an image; or hf:OWNER/NAME.
        zoo: the zoo of the run, where it has moved.
        host: that is listened at; 0.0.0.0 lets other machines ask, with a key.
        port: 0 lets the system choose.
        key_file: holds the key.
        max_bytes: of an image file.
    """
    from dfml.app.learned import opened
    from dfml.app.page import web_page
    from dfml.hub import fetched
    from dfml.nn.foreign.base import library
    from dfml.runs.load import load
    from dfml.serve.http import check_guarded

    key = _key(key_file)
    check_guarded(host, key)
    library("gradio", "app")  # before anything is read
    source = fetched(learner)
    with TemporaryDirectory(prefix="dfml-app-") as place:  # what people drop is gone when the page is
        os.environ["GRADIO_TEMP_DIR"] = place
        page = web_page(load(source), Path(place), opened(source, zoo), key=key, max_bytes=max_bytes)
        _serve(learner, page, None, host, port, guarded=bool(key))


def _serve(name: object, app: Any, counts: "Counts | None", host: str, port: int, *, guarded: bool) -> None:
    """Until a signal comes; what was asked is said at the end, where it was counted."""
    from dfml.serve.http import address, listening, serve

    with listening(host, port) as sock:
        say(f"serving {visible(name)} at {address(sock)}{'' if guarded else ', without a key'}; Ctrl-C stops it")
        try:
            serve(app, sock)
        finally:  # a signal is what ends it
            if counts:
                say(f"{counts.images} images in {counts.requests} requests, {counts.refused} of them refused")


def _key(file: Path | None) -> str:
    """From a file, else from the environment."""
    if file is None:
        return os.environ.get(KEY, "").strip()
    try:
        key = regular(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise InputError(f"--key-file {file}: cannot be read ({error})", "a file with a key", "check it") from error
    if not re.fullmatch(r"[!-~]+", key):
        raise InputError(f"--key-file {file}", "one key, printable characters without spaces", "check the file")
    return key


def _per_second(rate: str | None) -> float | None:
    if rate is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)/(s|min|h)", rate.replace(" ", ""))
    if not found or not float(found[1]):
        raise InputError(f"--rate {rate}", "5/s, 100/min or 1000/h", "correct it")
    return float(found[1]) / {"s": 1, "min": 60, "h": 3600}[found[2]]
