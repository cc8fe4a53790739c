"""Requests to dfml's web servers, from the method to the body, as kinds of files that the fuzzer changes."""

import json
import logging
import socket
from base64 import b64encode
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import torch
from damage import Kind
from PIL import Image

from dfml.learners import LEARNERS
from dfml.learners.task_classifier import TaskClassifier
from dfml.serve.http import predictor_app, served, web_app
from dfml.serve.predictor_api import PredictorApi
from dfml.serve.teacher_api import TeacherApi
from dfml.zoo.loaders.wire import MEDIA_TYPE, packed
from toys import toy_encoder, toy_teacher

PATIENCE = 0.05  # seconds without an answer after which a request counts as unfinished, and is cut off
KEY = "a key"


class Tracebacks(logging.Handler):
    """What servers log of exceptions that whoever asked does not see."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(self.format(record))


TRACEBACKS = Tracebacks()


def requests(folder: Path, stack: ExitStack) -> list[Kind]:
    """Requests to a predictor and a teacher that are served until the stack is closed."""
    torch.manual_seed(0)
    learner = LEARNERS["ridge"](toy_encoder()).eval()
    classifier = TaskClassifier(learner.adapt(torch.rand(4, 3, 16, 16), torch.tensor([0, 0, 1, 1])), ["a", "b"])
    predictor = stack.enter_context(served(predictor_app(PredictorApi(classifier, learner=learner, key=KEY))))
    teacher = stack.enter_context(served(web_app(TeacherApi(toy_teacher(), key=KEY))))
    logging.getLogger("uvicorn.error").addHandler(TRACEBACKS)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 16, 16), dtype=np.uint8)
    Image.fromarray(pixels[0].transpose(1, 2, 0)).save(picture := BytesIO(), format="png")
    images = [b64encode(picture.getvalue()).decode()]
    task = json.dumps({"classes": {"red": images, "blue": images}}).encode()
    every = {
        "predict": (predictor, "POST /predict", "image/png", picture.getvalue()),
        "adapt": (predictor, "POST /adapt", "application/json", task),
        "predict by another": (predictor, "POST /predictors/none/predict", "image/png", picture.getvalue()),
        "health": (predictor, "GET /health", "", b""),
        "openapi": (predictor, "GET /openapi.json", "", b""),
        "answers": (teacher, "POST /answers", MEDIA_TYPE, packed(pixels)),
        "info": (teacher, "GET /info", "", b""),
    }
    kinds = []
    for name, (url, line, media, body) in every.items():
        head = [f"{line} HTTP/1.1", "Host: here", f"Authorization: Bearer {KEY}", f"Content-Type: {media}"]
        head += ["Content-Length: LENGTH", "Connection: close", "", ""]
        (path := folder / f"{name}.http").write_bytes("\r\n".join(head).encode() + body)
        kinds.append(Kind(f"HTTP {name}", path, lambda url=url, path=path: ask(url, path.read_bytes())))
    return kinds


def ask(url: str, request: bytes) -> bytes:
    """The answer to the bytes of a request, LENGTH in them being that of its body.

    Raises:
        AssertionError: the server broke.
    """
    body = request.partition(b"\r\n\r\n")[2]
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port)) as sock:
        sock.settimeout(PATIENCE)
        answer = b""
        try:
            sock.sendall(request.replace(b"LENGTH", str(len(body)).encode()))
            while part := sock.recv(65536):
                answer += part
        except TimeoutError:
            sock.settimeout(None)
            sock.shutdown(socket.SHUT_WR)
            while part := sock.recv(65536):
                answer += part
        except ConnectionError:  # refused before all of it was read
            pass
    told, TRACEBACKS.told = TRACEBACKS.told, []
    assert not told, told[0]
    assert not answer[9:].startswith(b"5"), answer
    return answer[9:12]
