"""Anybody's model into a zoo: recognised, run, described and written, or refused with nothing written."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import nn

from dfml.consent import held_consent
from dfml.errors import InputError
from dfml.files import locked, parse_json, regular, write_atomic
from dfml.nn import InputSpec
from dfml.nn.foreign import SOURCES, source_of
from dfml.zoo.card import ModelCard
from dfml.zoo.files import checked_bytes
from dfml.zoo.foreign_files import weight_file
from dfml.zoo.given import Given, agreed, exported_from, given_model
from dfml.zoo.index import INDEX, Index, rewrite_index
from dfml.zoo.loaders import loader_of
from dfml.zoo.loaders.http import answers_file
from dfml.zoo.probe import probe
from dfml.zoo.recognise import recognise, sha256_of
from dfml.zoo.views import logit_answers

ASKED = {"size": "--size", "mean": "--mean", "std": "--std"}  # what of images must be known, and the option for it


def add(
    folder: str | Path,
    source: str | Path,
    *,
    id: str | None = None,
    like: str | None = None,
    weights: str | Path | None = None,
    class_names: Sequence[str] | str | Path | int | None = None,
    images: Mapping[str, Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
    licence: str | None = None,
    accuracy: Mapping[str, float] | None = None,
    shared_classes: bool = False,
    trust: bool = False,
) -> ModelCard:
    """Add a model to a zoo; makes the zoo where there is none.

    Args:
        folder: of the zoo.
        source: ``timm:NAME``, ``torchvision:NAME``, ``transformers:NAME``, ``python:module:function``; or a path: a
            ``.pt2`` or ``.onnx`` file, a file of weights (with ``like``), a folder of timm or transformers, or the
            card of a model in another zoo.
        id: of the model in the zoo; the name of the file or network unless given.
        like: of a file of weights: which network they belong to.
        weights: of a network by name: their file or folder; what the library has in its cache, or its hub, unless
            given.
        class_names: in the order of the outputs; or a file with a name a line (or JSON); or their number alone.
        images: arguments of `InputSpec` (``size``, ``width``, ``channels``, ``mean``, ``std``, ``interpolation``,
            ``crop``), where the model does not know them itself.
        arguments: of the function that builds the network.
        licence: of the weights.
        accuracy: ``{"mean": percent, "ci95": percent, "n": images}`` where it is known.
        shared_classes: of a new zoo: equal names in its models are the same class.
        trust: agree to running code that is not dfml's: of an import path, in a pickle or a ``.pt2`` file.

    Returns:
        The card that was written.

    Raises:
        InputError: it cannot be read, is no classifier of images, lacks what must be known (the message names the
            argument), is in the zoo already, or its library is not installed. The zoo is as it was then, and what
            ``trust`` agreed to is not remembered.
    """
    folder = Path(folder)
    path = Path(source)
    if str(source).startswith(("http://", "https://")):
        raise InputError(f"the address {source}", "a model at hand", "add it with dfml.zoo.add_http")
    with held_consent() as keep_consent:
        if path.suffix == ".json" and path.is_file() and recognise(path).kind == "card":
            card, content = _of_other_zoo(path, id, trust)
        else:
            names = class_names_of(class_names)
            classes = names if isinstance(names, int) else len(names) if names else None
            given = given_model(
                source,
                like=like,
                weights=Path(weights) if weights else None,
                arguments=arguments,
                classes=classes,
                trust=trust,
            )
            check_free(folder, id or file_name(given.name))
            if given.source == "pickle":
                given = exported_from(given, _spec(given, images or {}).shape)
            card, content = _card(given, names, images or {}, id)
        card = replace(card, licence=licence or card.licence, accuracy=dict(accuracy or card.accuracy), stored_hash="")
        write(folder, card, content, shared_classes, keep_consent)
    return card


def file_name(name: str) -> str:
    """A name as an id."""
    return re.sub(r"[^\w.-]+", "_", name)


def check_free(folder: Path, model: str) -> None:
    """Refuse an id that is no file name or is taken, before the model is run."""
    if Path(model).name != model or not model:
        raise InputError(f"id {model!r}", "a file name", "give id (--id)")
    if (folder / INDEX).exists() and model in {m.id for m in Index.read(folder).models}:
        raise InputError(f"{folder}: there is a model {model!r} already", "an id of its own", "give id (--id)")


def class_names_of(given: Sequence[str] | str | Path | int | None) -> list[str] | int | None:
    """Class names, or how many there are."""
    if given is None or isinstance(given, int):
        return given
    if not isinstance(given, str | Path):
        return [str(name) for name in given]
    path = Path(given)
    try:
        text = regular(path).read_text(encoding="utf-8")
        if path.suffix != ".json":
            return [line.strip() for line in text.splitlines() if line.strip()]
        values = parse_json(text)
    except (OSError, ValueError) as error:
        raise InputError(f"class names in {path} ({error})", "a name a line, or JSON", "correct the file") from error
    if isinstance(values, dict):
        values = [values[key] for key in sorted(values, key=int)]
    return [str(name[-1] if isinstance(name, list) else name) for name in values]


def _spec(given: Given, images: Mapping[str, Any]) -> InputSpec:
    """What is known of the model's images, and what was said of them."""
    known = given.about.input_spec | {key: value for key, value in images.items() if value is not None}
    if "size" in images and "width" not in images:
        known.pop("width", None)
    known.setdefault("channels", _channels(given.network))
    if missing := [key for key in ASKED if key not in known]:
        raise InputError(
            f"{given.source}: nothing says the {' and '.join(missing)} of its images",
            "pixels of a side; mean and std of each channel, of images in [0, 1] (0 and 1 where it normalises itself)",
            f"give {', '.join(f'{key} ({ASKED[key]})' for key in missing)}",
        )
    for key in ("mean", "std"):
        if len(known[key]) == 1:
            known[key] = tuple(known[key]) * known["channels"]
    return InputSpec.from_dict(known)


def _channels(network: nn.Module) -> int:
    first = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
    return first.in_channels if first is not None else 3


def _card(
    given: Given, names: list[str] | int | None, images: Mapping[str, Any], id: str | None
) -> tuple[ModelCard, bytes]:
    """Run the model, and describe it."""
    spec = _spec(given, images)
    names = names or list(given.about.class_names)
    count = names if isinstance(names, int) else len(names) or None
    opaque = given.source == "onnx" and not given.options.get("translated")
    found = probe(given.network, spec, batch=given.batch, classes=count, opaque=opaque)
    if not names:
        raise InputError(
            f"{given.source}: {found.classes} classes whose names nothing says",
            "their names in the order of the outputs, or their number where they have none",
            f"give class_names (--classes FILE, or --classes {found.classes})",
        )
    names = [f"class {i}" for i in range(names)] if isinstance(names, int) else names
    content = given.content
    if content is None:
        content = save_tensors({k: v.detach().contiguous().clone() for k, v in given.network.state_dict().items()})
    model = id or file_name(given.name)
    findings = list(found.findings)
    if "untranslated" in given.options:
        findings.append(f"Not translated from ONNX to torch ({given.options['untranslated']}).")
    if "difference" in given.options:
        findings.append(f"Translated from ONNX to torch: answers differ by {given.options['difference']:.1e} at most.")
    card = ModelCard(
        id=model,
        source=given.source,
        class_names=tuple(names),
        class_ids=distinct([f"{model}/{name}" for name in names]),
        input_spec=spec,
        sha256=sha256_of(content),
        options=given.options,
        answers=found.answers,
        capabilities=found.capabilities.names,
        structure=found.structure,
        findings=tuple(findings),
        licence=given.about.licence,
    )
    return card, content


def distinct(ids: Sequence[str]) -> tuple[str, ...]:
    """A second class of the same name gets a number."""
    met: dict[str, int] = {}
    distinct = []
    for one in ids:
        met[one] = met.get(one, 0) + 1
        distinct.append(one if met[one] == 1 else f"{one}#{met[one]}")
    return tuple(distinct)


def _of_other_zoo(path: Path, id: str | None, trust: bool) -> tuple[ModelCard, bytes]:
    """A model of another zoo, under its own class ids."""
    card = ModelCard.read(path)
    content = checked_bytes(weight_file(path.parent, card), card)
    if card.source.partition(":")[0] in SOURCES:
        source, name = source_of(card.source)
        agreed({"source": card.source, "options": card.options}, source.runs(name, card.options), trust)
    return replace(card, id=id or card.id, stored_hash=""), content


def write(
    folder: Path, card: ModelCard, content: bytes, shared_classes: bool, keep_consent: Callable[[], None]
) -> None:
    """Weights, card, index and consent; or nothing, not even the folders above."""
    new = not (folder / INDEX).exists()
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _write_locked(folder, card, content, shared_classes, new, keep_consent)
    except BaseException:
        with suppress(OSError):  # somebody else has put something there
            for path in made:
                path.rmdir()
        raise


def _write_locked(
    folder: Path,
    card: ModelCard,
    content: bytes,
    shared_classes: bool,
    new: bool,
    keep_consent: Callable[[], None],
) -> None:
    with locked(folder, "adding a model"):
        index = Index(folder.resolve().name, shared_classes) if new else Index.read(folder)
        check_free(folder, card.id)
        card = _with_ids(card, index)
        files = {weight_file(folder, card): content, folder / f"{card.id}.json": card.to_json().encode()}
        # The same bytes are what a killed command left.
        if there := [p for p, new in files.items() if p.exists() and regular(p).read_bytes() != new]:
            raise InputError(f"{there[0]} is there already, of no model in the zoo", "a free name", "remove the file")
        before = None if new else (folder / INDEX).read_bytes()
        kept = answers_file(folder, card.id)
        made = [] if kept.exists() else [kept]  # answers of a model that was here before are still paid for
        try:
            for path, new_content in files.items():
                write_atomic(path, new_content)
            ids = [*(m.id for m in index.models), card.id]
            rewrite_index(folder, index, ids=ids)
            _check_read(folder, card)
            keep_consent()  # last: what fails before leaves none, and where it fails itself the model goes again
        except BaseException:
            for path in (*files, *made):
                path.unlink(missing_ok=True)
            if before is None:
                (folder / INDEX).unlink(missing_ok=True)
            else:
                write_atomic(folder / INDEX, before)
            raise


def _with_ids(card: ModelCard, index: Index) -> ModelCard:
    """Class ids that the zoo has for these names, where equal names are the same class in it."""
    if not index.shared_classes or not card.class_ids[0].startswith(f"{card.id}/"):
        return card
    known = {name: class_id for class_id, name in reversed(index.classes.items())}
    return replace(card, class_ids=distinct([known.get(name, name) for name in card.class_names]))


def _check_read(folder: Path, card: ModelCard) -> None:
    """What was written can be loaded and answers, as any command will load it."""
    teacher = loader_of(card.source).load(folder, card, torch.device("cpu"))
    answers = logit_answers(teacher, torch.full((2, *card.input_spec.shape), 0.5))
    if answers.shape != (2, len(card.class_ids)) or not bool(answers.isfinite().all()):
        raise InputError(
            f"model {card.id}: answers of shape {tuple(answers.shape)} once it is written",
            f"numbers of shape (2, {len(card.class_ids)})",
            "add it in another form, as .pt2 or .onnx",
        )
