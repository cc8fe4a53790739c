"""What a server of a predictor answers, without the network: labels of images, and predictors of a few of them."""

import threading
import time
from base64 import b64decode
from collections import OrderedDict
from concurrent.futures import Future
from hashlib import sha256
from queue import Empty, SimpleQueue
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dfml.data.folders import to_spec
from dfml.data.pictures import decode_picture
from dfml.errors import InputError
from dfml.learners.base import AbstractLearner
from dfml.learners.predictor_file import adapt_to_images
from dfml.learners.task_classifier import NONE, TaskClassifier, largest_spec
from dfml.nn import InputSpec
from dfml.serve.gate import Gate, Refusal

TOGETHER = 64  # images that the network looks at at once
GATHER = 0.003  # seconds in which requests that come at once are gathered
WAIT = 30.0  # seconds for an answer
SUPPORT = 200  # images of a task, at most
KEPT = 32  # predictors made by callers; of more the one that was asked least lately goes


class Answers:
    """One predictor that answers many callers: their images are looked at together."""

    def __init__(self, classifier: TaskClassifier):
        self.classifier = classifier
        self._waiting: SimpleQueue[tuple[Tensor, Future[dict[str, Any]]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def predict(self, content: bytes) -> dict[str, Any]:
        """Label and probabilities of an image file.

        Raises:
            Refusal: no image, one of too many pixels, or answers that are no numbers.
        """
        answer: Future[dict[str, Any]] = Future()
        self._waiting.put((_fitted(content, self.classifier.spec), answer))
        try:
            return answer.result(WAIT)
        except InputError as error:
            raise Refusal(500, error.given) from error
        except TimeoutError as error:
            raise Refusal(503, "too much to do", 5) from error

    def close(self) -> None:
        """End the thread once it has answered."""
        self._waiting.put(None)

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, end, last = [first], time.monotonic() + GATHER, False
            while len(batch) < TOGETHER and not last:
                try:
                    more = self._waiting.get(timeout=max(0.0, end - time.monotonic()))
                except Empty:
                    break
                last = more is None
                batch += [] if more is None else [more]
            self._answer(batch)
            if last:
                return

    def _answer(self, batch: list[tuple[Tensor, Future[dict[str, Any]]]]) -> None:
        try:
            said = self.classifier.predict(torch.stack([image for image, _ in batch]))
        except Exception as error:  # else callers wait for an answer that never comes
            for _, answer in batch:
                answer.set_exception(error)
            return
        for (_, answer), label, row in zip(batch, said.labels, said.probabilities.tolist(), strict=True):
            known = dict(zip(self.classifier.class_names, (round(p, 6) for p in row), strict=True))
            answer.set_result({"label": None if label == NONE else label, "probabilities": known})


class PredictorApi:
    """A predictor, and those that callers make.

    Args:
        classifier: what is served at first.
        learner: adapts to callers' tasks; None makes no predictors.
        key: that callers must show; empty is none.
        rate: requests a second; None is no bound.
        max_bytes: of an image file.
    """

    def __init__(
        self,
        classifier: TaskClassifier,
        *,
        learner: AbstractLearner | None = None,
        key: str = "",
        rate: float | None = None,
        max_bytes: int = 10_000_000,
    ):
        self.gate, self.learner, self.max_bytes = Gate(key, rate), learner, max_bytes
        self.main = Answers(classifier)
        self._made: OrderedDict[str, Answers] = OrderedDict()
        self._lock, self._adapting = threading.Lock(), threading.Lock()
        self.seconds = 0.0

    def answers_of(self, name: str | None) -> Answers:
        """The predictor of that name.

        Raises:
            Refusal: there is none, or it is gone.
        """
        if name is None:
            return self.main
        with self._lock:
            if name not in self._made:
                raise Refusal(404, "no such predictor, or it is gone: adapt again")
            self._made.move_to_end(name)
            return self._made[name]

    def predict(self, name: str | None, content: bytes) -> dict[str, Any]:
        """Label and probabilities of an image file, by that predictor.

        Raises:
            Refusal: see `Answers.predict` and `answers_of`.
        """
        start = time.monotonic()
        said = self.answers_of(name).predict(content)
        with self.gate.lock:
            self.gate.counts.images += 1
            self.seconds += time.monotonic() - start
        return said

    def adapt(self, classes: dict[str, list[str]]) -> dict[str, Any]:
        """A new predictor.

        Args:
            classes: name -> a few image files of it, in base64.

        Returns:
            Where it answers, and its classes.

        Raises:
            Refusal: nothing to adapt, or no images that can be adapted to.
        """
        if self.learner is None:
            raise Refusal(404, "this server adapts to no task")
        if sum(map(len, classes.values())) > SUPPORT:
            raise Refusal(413, f"{SUPPORT} images at most")
        spec = largest_spec(self.learner.networks)
        images, labels = [], []
        for number, files in enumerate(classes.values()):
            for text in files:
                try:
                    content = b64decode(text, validate=True)
                except ValueError as error:
                    raise Refusal(400, f"an image that is not base64: {error}") from error
                images.append(_fitted(content, spec))
                labels.append(number)
        if len(classes) < 2 or not all(classes.values()):
            raise Refusal(400, "two classes at least, with an image each")
        stacked, y = torch.stack(images), torch.tensor(labels)
        with self._adapting:
            made = Answers(adapt_to_images(self.learner, stacked, y, list(classes)))
        name = sha256(stacked.numpy().tobytes() + repr((labels, list(classes))).encode()).hexdigest()[:16]
        with self._lock:
            replaced = [self._made.pop(name)] if name in self._made else []
            self._made[name] = made
            while len(self._made) > KEPT:
                replaced.append(self._made.popitem(last=False)[1])
        for answers in replaced:
            answers.close()
        return {"predict": f"/predictors/{name}/predict", "classes": list(classes)}

    def metrics(self) -> str:
        """What was asked so far, as Prometheus reads it."""
        with self.gate.lock:
            counts, seconds = self.gate.counts, self.seconds
            told = {"requests": counts.requests, "refused": counts.refused, "images": counts.images}
        lines = [f"# TYPE dfml_{name}_total counter\ndfml_{name}_total {value}" for name, value in told.items()]
        lines += [f"# TYPE dfml_answer_seconds_total counter\ndfml_answer_seconds_total {seconds:.6f}"]
        lines += [f"# TYPE dfml_predictors gauge\ndfml_predictors {1 + len(self._made)}"]
        return "\n".join(lines) + "\n"


def _fitted(content: bytes, spec: InputSpec) -> Float[Tensor, "c h w"]:
    """An image file as `dfml predict` gives it to a network.

    Raises:
        Refusal: no image, or one of too many pixels.
    """
    try:
        return to_spec(decode_picture(content, spec.channels, side=max(spec.shape[1:])), spec)
    except InputError as error:
        raise Refusal(400, f"{error.given}; wanted: {error.wanted}") from error
