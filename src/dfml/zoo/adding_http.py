"""A model behind an address into a zoo: its server is asked what it is, and one image to see that it answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dfml.consent import held_consent
from dfml.errors import InputError
from dfml.nn import InputSpec
from dfml.zoo.adding import check_free, class_names_of, distinct, file_name, write
from dfml.zoo.card import CALLED, ModelCard
from dfml.zoo.loaders.calling import PATIENCE, Call, Line
from dfml.zoo.loaders.wire import About, Malformed
from dfml.zoo.recognise import sha256_of


def is_address(source: object) -> bool:
    """Whether a model's source is an address."""
    return str(source).startswith(("http://", "https://"))


def add_http(
    folder: str | Path,
    url: str,
    *,
    key_from: str | None = None,
    budget: int | None = None,
    patience: float = PATIENCE,
    id: str | None = None,
    class_names: Sequence[str] | str | Path | int | None = None,
    licence: str | None = None,
    accuracy: Mapping[str, float] | None = None,
    shared_classes: bool = False,
) -> ModelCard:
    """Add a model that `dfml serve-teacher`, or a server that speaks as it does, gives answers of.

    Args:
        folder: of the zoo; made where there is none.
        url: of the server.
        key_from: the environment variable that holds its key.
        budget: images that may be asked in all.
        patience: seconds that a request may take, with all its tries.
        id: of the model in the zoo; the server's name for it unless given.
        class_names: in the order of the answers; the server's unless given.
        licence: see `dfml.zoo.add`.
        accuracy: see `dfml.zoo.add`.
        shared_classes: see `dfml.zoo.add`.

    Returns:
        The card that was written.

    Raises:
        InputError: no such server, or one that does not answer as it should; the zoo is as it was then.
    """
    folder, call = Path(folder), Call(url, key_from, budget, patience)
    with Line(call, id or url) as line:
        try:
            about = About.from_dict(line.ask("/info"))
        except Malformed as error:
            raise line.no_answer(error) from error
    model = id or file_name(about.id)
    check_free(folder, model)
    names = class_names_of(class_names) or list(about.classes)
    if isinstance(names, int) or len(names) != len(about.classes):
        raise InputError(
            f"{names if isinstance(names, int) else len(names)} classes for {url}",
            f"names of its {len(about.classes)}",
            "leave class_names out (--classes), or name them all",
        )
    content = about.to_bytes()
    card = ModelCard(
        id=model,
        source=CALLED,
        class_names=tuple(names),
        class_ids=distinct([f"{model}/{name}" for name in names]),
        input_spec=_spec(about),
        sha256=sha256_of(content),
        options=call.to_dict(),
        answers=about.answers,
        capabilities=("labels",) if about.answers == "labels" else ("labels", "probabilities"),
        findings=tuple(_sentences(about, call)),
        licence=licence or "unknown",
        accuracy=dict(accuracy or {}),
    )
    with held_consent() as keep_consent:
        call.consent()
        write(folder, card, content, shared_classes, keep_consent)
    return card


def _spec(about: About) -> InputSpec:
    """The server normalises images itself: mean and std here are those of the canvas where no model has others."""
    width = None if about.width == about.height else about.width
    return InputSpec(about.channels, about.height, (0.5,) * about.channels, (0.25,) * about.channels, width)


def _sentences(about: About, call: Call) -> list[str]:
    told = "labels alone" if about.answers == "labels" else f"probabilities of {about.decimals} decimals"
    most = f", of the {about.top} largest" if about.top else ""
    said = [
        f"It answers with {told}{most}.",
        "A black box: images cannot be recovered from it, it can only answer on others'.",
        "Its answers are kept in the zoo, and no image is asked twice.",
    ]
    if call.key_from and call.url.startswith("http://"):
        said.append("Its key travels unencrypted (http): use https where others can listen.")
    return said
