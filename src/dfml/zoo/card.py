"""The card of a model: what it is, what it knows and how it was made. One JSON file beside the weights."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import Flag, auto
from pathlib import Path
from typing import Any

from dfml.errors import InputError
from dfml.files import SEAL, check_seal, seal_of, sealed
from dfml.nn import InputSpec

CARD_SCHEMA = 1
CHANGE = (
    "undo the change and make it with `dfml zoo edit ZOO MODEL --set KEY=VALUE`, or call dfml.zoo.write_index on the "
    "folder, which takes cards as they are and seals them and zoo.json"
)


class Capability(Flag):
    """What a teacher can be asked for."""

    LABELS = auto()
    PROBABILITIES = auto()
    LOGITS = auto()
    GRADIENTS = auto()
    FEATURES = auto()
    BN_STATISTICS = auto()
    WHITE_BOX = LABELS | PROBABILITIES | LOGITS | GRADIENTS | FEATURES | BN_STATISTICS


@dataclass(frozen=True)
class ModelCard:
    """One model of a zoo.

    Args:
        id: file name without ending.
        architecture: a key of `dfml.nn.ARCHITECTURES`.
        width: channels of the first block.
        class_names: names in the order of the model's outputs.
        class_ids: identities in the same order; equal ids in two models mean the same class.
        input_spec: what an image must look like.
        accuracy: ``{"mean": percent, "ci95": percent, "n": images}`` on held-out images, or empty.
        sha256: of the weight file.
        licence: of the weights.
        provenance: how the model was made: free plain values.
    """

    id: str
    architecture: str
    width: int
    class_names: tuple[str, ...]
    class_ids: tuple[str, ...]
    input_spec: InputSpec
    sha256: str
    accuracy: dict[str, float] = field(default_factory=dict)
    licence: str = "unknown"
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        names, ids = len(self.class_names), len(self.class_ids)
        if names < 2 or names != ids or len(set(self.class_ids)) != ids:
            raise InputError(
                f"card {self.id}: {names} class names and {ids} class ids ({len(set(self.class_ids))} distinct)",
                "at least two classes, as many ids as names, no id twice",
                "correct class_names and class_ids in the card",
            )

    def to_dict(self) -> dict[str, Any]:
        """The card as plain values."""
        return {"schema": CARD_SCHEMA} | asdict(self) | {"input_spec": self.input_spec.to_dict()}

    def to_json(self) -> str:
        """The card as text, sealed."""
        return json.dumps(sealed(self.to_dict()), indent=1)

    @staticmethod
    def read(path: Path, *, seal: str = "") -> "ModelCard":
        """Read ``<id>.json``; its seal must be ``seal``, where one is known.

        Raises:
            InputError: not JSON, fields missing or unknown, another schema, changed since it was sealed.
        """
        values = card_values(path)
        check_seal(path, values, CHANGE)
        if seal and seal != seal_of(values):
            raise InputError(f"{path}: not the card that is sealed in zoo.json", "a card that agrees with it", CHANGE)
        return card_of(path, values)


def card_values(path: Path) -> dict[str, Any]:
    """What the file of a card holds.

    Raises:
        InputError: not a JSON object.
    """
    with _explained(path):
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise TypeError(f"a {type(values).__name__}")
        return values


def card_of(path: Path, values: Mapping[str, Any]) -> ModelCard:
    """The card of these values, which stand in ``path``.

    Raises:
        InputError: fields missing or unknown, another schema.
    """
    values = {key: value for key, value in values.items() if key != SEAL}
    with _explained(path):
        schema = values.pop("schema", None)
        if schema != CARD_SCHEMA:
            raise InputError(f"{path}: schema {schema!r}", f"schema {CARD_SCHEMA}", "rebuild the zoo with this dfml")
        values["input_spec"] = InputSpec(**values["input_spec"])
        values["class_names"] = tuple(values["class_names"])
        values["class_ids"] = tuple(values.get("class_ids") or [f"{values['id']}/{n}" for n in values["class_names"]])
        return ModelCard(**values)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path}: not a model card ({type(error).__name__}: {error})",
            "a JSON object with id, architecture, width, class_names, input_spec and sha256",
            "compare it with the card of a zoo made by `dfml zoo build`",
        ) from error
