"""The card of a model: what it is, what it knows and how it was made. One JSON file beside the weights."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import Flag, auto
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any, Literal

from dfml.errors import InputError
from dfml.files import content_hash, read_json, sealed, to_json, unsealed
from dfml.nn import InputSpec
from dfml.plain import check_types

CARD_SCHEMA = 3
CALLED = "http"  # the source of models behind an address
AnswerKind = Literal["logits", "probabilities", "labels"]


def architecture_of(source: str) -> str:
    """What comes behind the prefix of a source, or the prefix where nothing does, as in ``onnx``."""
    prefix, _, name = source.partition(":")
    return name or prefix


class Capability(Flag):
    """What a teacher can be asked for."""

    LABELS = auto()
    PROBABILITIES = auto()
    LOGITS = auto()
    GRADIENTS = auto()
    FEATURES = auto()
    BN_STATISTICS = auto()
    WHITE_BOX = LABELS | PROBABILITIES | LOGITS | GRADIENTS | FEATURES | BN_STATISTICS

    @property
    def names(self) -> tuple[str, ...]:
        """Each of them in lower case, as cards hold them."""
        return tuple(str(one.name).lower() for one in self)

    @staticmethod
    def named(names: Iterable[str]) -> "Capability":
        """From `names`.

        Raises:
            ValueError: a name that none has.
        """
        known = {str(one.name).lower(): one for one in Capability}
        if unknown := sorted(set(names) - known.keys()):
            raise ValueError(f"capability {unknown[0]!r}, not one of {', '.join(known)}")
        return reduce(or_, (known[name] for name in names), Capability(0))


@dataclass(frozen=True)
class ModelCard:
    """One model of a zoo.

    Args:
        id: file name without ending.
        source: who made the network, and which: ``dfml:conv4`` is a key of `dfml.nn.ARCHITECTURES`; see
            `dfml.zoo.loaders`.
        class_names: names in the order of the model's outputs.
        class_ids: identities in the same order; equal ids in two models mean the same class.
        input_spec: what an image must look like.
        accuracy: ``{"mean": percent, "ci95": percent, "n": images}`` on held-out images, or empty.
        sha256: of the weight file.
        options: what else the source needs to build the network: ``width``, the channels of the first block.
        answers: what its outputs are: ``logits``, ``probabilities`` or ``labels``.
        capabilities: what it can be asked, as found when it was added; empty is all that its source gives.
        structure: of another library's network, as found when it was added; see `dfml.nn.foreign.build_foreign`.
        findings: what else was found then, in plain sentences.
        licence: of the weights.
        provenance: how the model was made: free plain values.
    """

    id: str
    source: str
    class_names: tuple[str, ...]
    class_ids: tuple[str, ...]
    input_spec: InputSpec
    sha256: str
    options: dict[str, Any] = field(default_factory=dict)
    accuracy: dict[str, float] = field(default_factory=dict)
    licence: str = "unknown"
    provenance: dict[str, Any] = field(default_factory=dict)
    answers: AnswerKind = "logits"
    capabilities: tuple[str, ...] = ()
    structure: dict[str, Any] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    stored_hash: str = field(default="", compare=False)
    """Of what its file says, word for word, so that it is the same to every version of dfml; empty for a new card."""

    def __post_init__(self):
        names, ids = len(self.class_names), len(self.class_ids)
        if names < 2 or names != ids or len(set(self.class_ids)) != ids:
            raise InputError(
                f"card {self.id}: {names} class names and {ids} class ids ({len(set(self.class_ids))} distinct)",
                "at least two classes, as many ids as names, no id twice",
                "correct class_names and class_ids in the card",
            )

    @property
    def architecture(self) -> str:
        """The source's own name of the network: ``conv4``."""
        return architecture_of(self.source)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = {"schema": CARD_SCHEMA} | asdict(self) | {"input_spec": self.input_spec.to_dict()}
        del values["stored_hash"]
        return values

    @property
    def hash(self) -> str:
        """Of everything that the card says, as it stands in its file.

        But how a model behind an address is called: it is the same model when its server moves.
        """
        return self.stored_hash or _hash(self.to_dict())

    def to_json(self) -> str:
        """The card as text, sealed."""
        return to_json(sealed(self.to_dict())).decode()

    @staticmethod
    def read(path: Path) -> "ModelCard":
        """Read ``<id>.json``.

        Raises:
            InputError: not JSON, fields missing or unknown, another schema, or changed since it was written.
        """
        try:
            values = read_json(path)
            if not isinstance(values, dict):
                raise ValueError(f"a JSON {type(values).__name__}")
        except (OSError, ValueError) as error:
            raise _no_card(path, error) from error
        return ModelCard.from_dict(unsealed(values, path, "undo the change, or make it with `dfml zoo edit`"), path)

    @staticmethod
    def from_dict(values: dict[str, Any], path: Path) -> "ModelCard":
        """A card from the values of its file; ``path`` for messages.

        Raises:
            InputError: see `read`.
        """
        try:
            stored_hash, values = _hash(values), dict(values)
        except ValueError as error:  # NaN
            raise _no_card(path, error) from error
        schema = values.pop("schema", None)
        if schema not in (1, 2, CARD_SCHEMA):
            raise InputError(f"{path}: schema {schema!r}", f"schema {CARD_SCHEMA}", "rebuild the zoo with this dfml")
        try:
            if schema == 1:  # all networks were dfml's own
                values["source"] = f"dfml:{values.pop('architecture')}"
                values["options"] = {"width": values.pop("width")}
            check_types(ModelCard, values)
            values["input_spec"] = InputSpec.from_dict(values["input_spec"])
            values["class_names"] = tuple(values["class_names"])
            ids = values.get("class_ids") or [f"{values['id']}/{n}" for n in values["class_names"]]
            values["class_ids"] = tuple(ids)
            for key in ("capabilities", "findings"):
                values[key] = tuple(values.get(key, ()))
            Capability.named(values["capabilities"])
            return ModelCard(**values | {"stored_hash": stored_hash})
        except InputError as error:
            raise InputError(f"{path}: {error.given}", error.wanted, error.do) from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _no_card(path, error) from error


def _hash(values: dict[str, Any]) -> str:
    return content_hash(values | {"options": {}} if values.get("source") == CALLED else values)


def _no_card(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path}: not a model card ({type(error).__name__}: {error})",
        "a JSON object with id, source, class_names, input_spec and sha256",
        "compare it with the card of a zoo made by `dfml zoo build`",
    )
