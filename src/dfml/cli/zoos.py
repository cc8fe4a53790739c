"""Commands that take models into a zoo and look at them."""

from pathlib import Path
from typing import Any

from tyro.conf import Positional

from dfml.cli.show import bar, say
from dfml.errors import InputError, PartialFailure
from dfml.files import parse_json, read_json, visible


def zoo_add(
    zoo: Positional[Path],
    sources: Positional[tuple[str, ...]],
    /,
    *,
    id: str | None = None,
    like: str | None = None,
    weights: Path | None = None,
    classes: str | None = None,
    size: int | None = None,
    width: int | None = None,
    channels: int | None = None,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    interpolation: str | None = None,
    crop: float | None = None,
    arguments: str | None = None,
    licence: str | None = None,
    accuracy: float | None = None,
    shared_classes: bool = False,
    trust: bool = False,
    key_from: str | None = None,
    budget: int | None = None,
    patience: float | None = None,
) -> None:
    """Add anybody's models to a zoo: by name, by import path, from files of most kinds, or by the address of a server.

    Args:
        zoo: its folder; made where there is none.
        sources: ``timm:NAME``, ``torchvision:NAME``, ``transformers:NAME``, ``python:module:function``; files of
            weights, ``.pt2`` and ``.onnx`` files, folders of timm and transformers, cards of other zoos;
            addresses of servers, ``http://HOST:PORT``.
        id: of the model; its file's or network's name unless given.
        like: the network that a file of weights belongs to, as ``timm:resnet18``.
        weights: the weights of a network by name: a file or folder.
        classes: names in the order of the outputs: a file with a name a line (or JSON), ``cat,dog,...``, or their
            number where they have no names.
        size: height of its images in pixels, and width where --width is not given.
        width: of its images.
        channels: of its images.
        mean: of each channel, of images in [0, 1]; one for all, or one each.
        std: of each channel.
        interpolation: bilinear, bicubic or nearest.
        crop: the middle part of an image that it looks at, as a share of the sides.
        arguments: of the function that builds it, as JSON: ``{"width": 64}``.
        licence: of the weights.
        accuracy: in percent, where you know it.
        shared_classes: of a new zoo: equal names in its models are the same class.
        trust: run code that is not dfml's: of an import path, in a pickle, in a .pt2 file.
        key_from: of an address: the environment variable that holds the key; the key is written nowhere.
        budget: of an address: images that may be asked in all.
        patience: of an address: seconds that a request may take with all its tries; 120 unless given.
    """
    images: dict[str, Any] = {
        "size": size,
        "width": width,
        "channels": channels,
        "interpolation": interpolation,
        "crop": crop,
    }
    images |= {"mean": mean or None, "std": std or None}
    given: dict[str, Any] = {"id": id, "class_names": _classes(classes), "licence": licence}
    given |= {"accuracy": None if accuracy is None else {"mean": accuracy}, "shared_classes": shared_classes}
    at_hand = {"like": like, "weights": weights, "images": _said(images), "arguments": _json(arguments), "trust": trust}
    called = _said({"key_from": key_from, "budget": budget, "patience": patience})
    of_cards = {f"{source.removesuffix('.json')}.safetensors" for source in sources if source.endswith(".json")}
    sources = tuple(source for source in sources if source not in of_cards)  # a card's weights are read with it
    if len(sources) > 1 and (id or weights):
        raise InputError(f"--id or --weights for {len(sources)} models", "one model", "add them one by one")
    _add_each(zoo, sources, given, at_hand, called)


def _add_each(
    zoo: Path, sources: tuple[str, ...], given: dict[str, Any], at_hand: dict[str, Any], called: dict[str, Any]
) -> None:
    """Add models; the options ``given`` are for all, those ``at_hand`` for models, those ``called`` for addresses."""
    from dfml.zoo import add, add_http
    from dfml.zoo.adding_http import is_address

    addresses = [source for source in sources if is_address(source)]
    if called and len(addresses) < len(sources):
        raise InputError("--key-from, --budget or --patience", "addresses alone", "add other models by themselves")
    if addresses and (stray := [key for key, value in at_hand.items() if value]):
        raise InputError(f"{', '.join(stray)} for {addresses[0]}", "an address alone", "leave them out")
    left_out: list[tuple[str, InputError]] = []
    for source in sources:
        try:
            if is_address(source):
                card = add_http(zoo, source, **called, **given)
            else:
                card = add(zoo, source, **at_hand, **given)
        except InputError as error:
            if len(sources) == 1:
                raise
            left_out.append((source, error))
            continue
        say(f"added {visible(card.id)}: {card.source}, {len(card.class_ids)} classes, {', '.join(card.capabilities)}")
        for finding in card.findings:
            say(f"  {finding}")
    if left_out:
        told = "\n".join(f"  {visible(source)}: {error}" for source, error in left_out)
        raise PartialFailure(f"{len(left_out)} of {len(sources)} not added:\n{told}")


def _said(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


def _classes(text: str | None) -> list[str] | Path | int | None:
    if text is None:
        return None
    if text.isdigit():
        return int(text)
    if Path(text).is_file() or Path(text).suffix in (".txt", ".json"):
        return Path(text)
    return [name.strip() for name in text.split(",")]


def _json(text: str | None) -> dict[str, Any] | None:
    try:
        values = parse_json(text) if text else None
    except ValueError as error:
        raise InputError(f"--arguments {text} ({error})", 'JSON: {"width": 64}', "correct it") from error
    if values is not None and not isinstance(values, dict):
        raise InputError(f"--arguments {text}", 'a JSON object: {"width": 64}', "correct it")
    return values


def trust(folder: Positional[Path], /) -> None:
    """Agree to the code that a zoo, learner or predictor from elsewhere runs, or to servers that it calls; list them.

    Args:
        folder: of the zoo, run or predictor.
    """
    from dfml.consent import give_consent, held_consent, models_in
    from dfml.nn.foreign import SOURCES, source_of
    from dfml.zoo.card import CALLED
    from dfml.zoo.loaders.calling import Call

    if not (files := sorted(folder.glob("*.json"))):
        raise InputError(f"{folder}: no JSON files in it", "the folder of a zoo, run or predictor", "check the path")
    agreed = set()
    with held_consent() as keep_consent:  # to all of it or, where a file cannot be read, to nothing
        for file in files:
            try:
                values = read_json(file)
            except (OSError, ValueError) as error:
                raise InputError(f"{file}: cannot be read ({error})", "JSON", "copy it again") from error
            for model in models_in(values):
                if model["source"] == CALLED:
                    call = Call.of_options(model["options"])
                    call.consent()
                    agreed.add(call.what)
                    continue
                if model["source"].partition(":")[0] not in SOURCES:
                    continue
                source, name = source_of(model["source"])
                if what := source.runs(name, model["options"]):
                    give_consent(model, what)
                    agreed.add(what)
        keep_consent()
    for what in sorted(agreed):
        say(f"trusted: {visible(what)}")
    if not agreed:
        say("nothing in it runs code that is not dfml's or calls a server")


def zoo_audit(zoo: Positional[str], /, *, set_aside: bool = False, seed: int = 0) -> None:
    """Find the bad models of a zoo, without data: broken, constant, copies, untrained, with wrong labels or mean.

    Args:
        zoo: its folder, or ``glyphs``.
        set_aside: write the verdicts into the index; every command skips these models from then on.
        seed: draws the images.
    """
    from dfml.randomness import Rng
    from dfml.zoo import Zoo
    from dfml.zoo.edit import set_aside as leave_out
    from dfml.zoo_building.audit import audit

    opened = Zoo.open(zoo)
    with bar("auditing") as progress:
        verdicts = audit(opened, rng=Rng(seed).at("audit"), progress=progress)
    for verdict in verdicts:
        say(f"{visible(verdict.id)}  {verdict.kind}: {visible(verdict.evidence)}")
    for name, reason in opened.aside.items():
        say(f"{visible(name)}  set aside before: {visible(reason)}")
    bad = [verdict for verdict in verdicts if verdict.kind != "unreachable"]
    say(f"{len(bad)} of {len(opened)} models are bad")
    if unreached := len(verdicts) - len(bad):
        say(f"{unreached} could not be asked; audit again when their servers answer")
    if set_aside and bad:
        leave_out(opened.path, {verdict.id: f"{verdict.kind}: {verdict.evidence}" for verdict in bad})
        say(f"set aside in {opened.path / 'zoo.json'}; one is taken back by `dfml zoo edit ZOO ID --set aside=null`")


def zoo_inspect(zoo: Positional[str], model: Positional[str], /, *, out: Path | None = None) -> None:
    """Show a model's card, what it can be asked, how sure it is, and a picture of what it shows of its classes.

    Args:
        zoo: the zoo's folder, or ``glyphs``.
        model: its id.
        out: the picture; plots/MODEL.png of the zoo unless given, or a temporary folder where it cannot be written.
    """
    from dfml.runs.inspection import inspect
    from dfml.zoo import Zoo

    found = inspect(Zoo.open(zoo), model, out)
    for line in found:
        say(line)
