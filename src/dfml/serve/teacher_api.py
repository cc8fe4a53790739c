"""What a server of one teacher answers, without the network: keys, bounds, rate, counts, and rounded answers."""

import hashlib
import threading
from collections import OrderedDict
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import UInt8
from numpy import ndarray
from torch import Tensor

from dfml.errors import InputError
from dfml.serve.gate import Gate, Refusal
from dfml.zoo.loaders.wire import About, Malformed, Told, largest_request, unpacked
from dfml.zoo.teacher import Teacher
from dfml.zoo.views import ANSWERS

REMEMBERED = 256  # requests whose answers are at hand where a caller lost them on the way


class TeacherApi:
    """One teacher, as far as others may see it.

    Args:
        teacher: is asked.
        answers: what it gives.
        top: so many of the largest probabilities alone; None is all.
        decimals: that probabilities are rounded to.
        key: that callers must show; empty is none.
        rate: requests a second; None is no bound.
        max_side: of images in pixels.
        max_images: of a request.

    Raises:
        InputError: a teacher that does not give such answers, or values out of bounds.
    """

    def __init__(
        self,
        teacher: Teacher,
        *,
        answers: Told = "probabilities",
        top: int | None = None,
        decimals: int = 4,
        key: str = "",
        rate: float | None = None,
        max_side: int = 512,
        max_images: int = 64,
    ):
        if ANSWERS[answers] not in teacher.capabilities:
            raise InputError(f"{answers} of {teacher.card.id}", "what the model gives", "serve its labels")
        if top is not None and (answers == "labels" or not 1 <= top <= len(teacher.card.class_names)):
            classes = len(teacher.card.class_names)
            raise InputError(f"top {top} of {classes} {answers}", f"1 to {classes} of its probabilities", "correct it")
        if not 0 <= decimals <= 17 or min(max_side, max_images) < 1 or not (rate is None or rate > 0):
            bounds = f"decimals {decimals}, rate {rate}, {max_images} images of {max_side} pixels"
            raise InputError(bounds, "0 to 17 decimals, and positive numbers", "correct them")
        card, spec = teacher.card, teacher.card.input_spec
        known = (card.id, card.sha256, card.class_names, *spec.shape)
        self.about = About(*known, answers, top, decimals)
        self.teacher, self.max_side, self.max_images = teacher, max_side, max_images
        self.gate = Gate(key, rate)
        self._memory: OrderedDict[bytes, dict[str, Any]] = OrderedDict()
        self._asking = threading.Lock()

    @property
    def largest(self) -> int:
        """Bytes of a request."""
        return largest_request(self.max_images, self.max_side)

    def info(self) -> dict[str, Any]:
        """What the model is, and how much it was asked."""
        bounds = {"max_images": self.max_images, "max_side": self.max_side}
        with self.gate.lock:
            return self.about.to_dict() | bounds | {"asked": asdict(self.gate.counts)}

    def answer(self, content: bytes) -> dict[str, Any]:
        """The answers to a request; the same request again is answered from memory, and costs the caller nothing.

        Raises:
            Refusal: images that cannot be read or are too many or too large, or a teacher that does not answer.
        """
        name = hashlib.sha256(content).digest()
        with self._asking:
            if (known := self._memory.get(name)) is not None:
                with self.gate.lock:
                    self.gate.counts.repeated += len(known.get("labels", known.get("probabilities", ())))
                return known
            try:
                images = unpacked(content, most=self.max_images, side=self.max_side)
            except Malformed as error:
                raise Refusal(400, str(error)) from error
            said = self._ask(images)
            with self.gate.lock:
                self.gate.counts.images += len(images)
            self._memory[name] = said
            if len(self._memory) > REMEMBERED:
                self._memory.popitem(last=False)
            return said

    def _ask(self, images: UInt8[ndarray, "n c h w"]) -> dict[str, Any]:
        try:
            said = self.teacher.answers(torch.from_numpy(images.copy()), self.about.answers).cpu()
        except InputError as error:
            raise Refusal(400, error.given) from error
        if not bool(said.isfinite().all()):
            raise Refusal(500, "the model's answers are no numbers")
        if self.about.answers == "labels":
            return {"labels": said.tolist()}
        if self.about.top is None:
            return {"probabilities": self._rounded(said)}
        values, places = said.topk(self.about.top, -1)
        return {"classes": places.tolist(), "probabilities": self._rounded(values)}

    def _rounded(self, values: Tensor) -> list[list[float]]:
        return [[round(value, self.about.decimals) for value in row] for row in values.double().tolist()]
