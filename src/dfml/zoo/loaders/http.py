"""A teacher behind an address: it is asked over HTTP, and what it has answered is never asked again."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Num, Shaped, UInt8
from torch import Tensor

from dfml.errors import NoAnswer, NotFinite
from dfml.nn import as_floats
from dfml.zoo.card import AnswerKind, Capability, ModelCard
from dfml.zoo.files import checked_bytes
from dfml.zoo.foreign_files import weight_file
from dfml.zoo.loaders.calling import Call, Line
from dfml.zoo.loaders.paid import PaidAnswers, key_of
from dfml.zoo.loaders.wire import About, Malformed, largest_response, packed, read_answers
from dfml.zoo.teacher import Forward
from dfml.zoo.views import refused

BATCH = 64  # images of a request, or fewer where the server takes fewer


def answers_file(folder: Path, model: str) -> Path:
    """Where the answers of a model behind an address are kept."""
    return folder / f"{model}.answers"


class HttpTeacher:
    """A teacher that is asked over HTTP (`dfml.zoo.loaders.wire`).

    Images are sent as bytes, at the size of the model; an answer is kept in the zoo, by the sha256 of the image that
    was sent, before anything is made of it. Of a call that fails, the answers that came are kept. No two threads or
    processes of a machine ask at the same time.

    Args:
        card: its card.
        about: what its server said of it when it was added.
        call: how it is called.
        paid: the answers so far.
        device: where its answers go.
    """

    def __init__(self, card: ModelCard, about: About, call: Call, paid: PaidAnswers, device: torch.device):
        self.card, self.about, self.call, self.paid, self.device = card, about, call, paid, device
        self.kind: AnswerKind = about.answers
        self.capabilities = Capability.named(card.capabilities)
        self._most: int | None = None  # images of a request, once its server has said that it is the model it was

    def forward(self, images: Num[Tensor, "n c h w"], *, statistics: bool = False) -> Forward:
        """Refused: nothing flows back through an API."""
        raise refused("a differentiable pass", self.card.id, self.kind)

    def features(self, images: Num[Tensor, "n c h w"]) -> Float[Tensor, "n features"]:
        """Refused: an API gives none."""
        raise refused("features", self.card.id, self.kind)

    @torch.no_grad()
    def answers(self, images: Num[Tensor, "n c h w"], kind: AnswerKind = "probabilities") -> Shaped[Tensor, "n ..."]:
        """See `Teacher.answers`.

        Raises:
            NoAnswer: the server is away, refuses, says what is no answer, or the budget is used up.
            InputError: a kind that it does not give, no key, or answers that cannot be kept.
            NotFinite: images that are NaN or infinite.
        """
        if kind not in ("labels", self.kind):
            raise refused(kind, self.card.id, self.kind)
        said = torch.from_numpy(self._said(self._as_sent(images)))
        if kind == "labels":
            said = said[:, 0].long() if self.kind == "labels" else said.argmax(-1)
        return said.to(self.device)

    def _as_sent(self, images: Tensor) -> UInt8[np.ndarray, "n c h w"]:
        fitted = self.card.input_spec.fit(as_floats(images.detach().cpu(), torch.float32)).float()
        if not bool(fitted.isfinite().all()):
            raise NotFinite(f"images for {self.card.id} that are NaN or infinite")
        return (255 * fitted.clamp(0, 1)).round().to(torch.uint8).contiguous().numpy()

    def _said(self, images: UInt8[np.ndarray, "n c h w"]) -> Float[np.ndarray, "n numbers"]:
        """Kept answers; those that are not there are asked for first, each once."""
        keys = [key_of(image) for image in images]
        with self.paid.alone():
            missing = {key: image for key, image in zip(keys, images, strict=True) if key not in self.paid}
            if missing:
                self._check_budget(len(missing))
                self._ask(list(missing), np.stack(list(missing.values())))
            return self.paid.rows(keys)

    def _ask(self, keys: list[bytes], images: UInt8[np.ndarray, "n c h w"]) -> None:
        with Line(self.call, self.card.id) as line:
            most = self._most = self._most or self._met(line)
            for first in range(0, len(keys), most):
                part = images[first : first + most]
                try:
                    said = line.ask("/answers", packed(part), largest=largest_response(self.about, len(part)))
                    rows = read_answers(said, self.about, len(part))
                except (Malformed, NoAnswer) as error:
                    self._most = None  # another model may be there when it is asked again
                    raise error if isinstance(error, NoAnswer) else line.no_answer(error) from error
                self.paid.add(keys[first : first + most], rows)

    def _met(self, line: Line) -> int:
        """Images of a request, of a server that is still that of this model."""
        info = line.ask("/info")
        try:
            about = About.from_dict(info)
        except Malformed as error:
            raise line.no_answer(error) from error
        if about != self.about:
            raise line.no_answer(f"another model, {about.id!r}, or another way of answering than when it was added")
        return most_of(info)

    def _check_budget(self, count: int) -> None:
        """Before anything is asked."""
        budget = self.call.budget
        if budget is not None and len(self.paid) + count > budget:
            raise NoAnswer(
                self.card.id,
                f"{count} images more than the {len(self.paid)} that were asked, of a budget of {budget}",
                "raise it with `dfml zoo edit ZOO ID --set options.budget=...`",
                comes_back=False,
            )


def most_of(info: dict) -> int:
    """Images of a request that a server takes, by what it says of itself."""
    most = info.get("max_images")
    return min(BATCH, most) if isinstance(most, int) and most > 0 else BATCH


def load_http(folder: Path, card: ModelCard, device: torch.device) -> HttpTeacher:
    """The teacher behind a card; its server is not asked yet.

    Raises:
        InputError: options that are no call's, no consent, no key, a file that is not the one of its card.
    """
    call, content = Call.of_options(card.options), checked_bytes(weight_file(folder, card), card)
    call.require_consent()
    call.key()
    about = About.from_bytes(content)
    numbers = 1 if about.answers == "labels" else len(about.classes)
    return HttpTeacher(card, about, call, PaidAnswers(answers_file(folder, card.id), card.sha256, numbers), device)
