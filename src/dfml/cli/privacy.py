"""The command that attacks a run as somebody who wants to know what its models were trained on."""

from dataclasses import asdict
from pathlib import Path

from tyro.conf import Positional

from dfml.cli.show import console, say


def audit_privacy(
    run: Positional[Path],
    /,
    *,
    data: str,
    held_out: float = 0.2,
    per_class: int = 20,
    zoo: str | None = None,
    out: Path | None = None,
) -> None:
    """Measure what a run gives away of the images that its models were trained on; for an owner of these images.

    Images that models were trained on are told from others of the same classes, by the models' answers, by the learner,
    and by what was recovered; controls that cannot know anything stand beside them.

    Args:
        run: the run folder.
        data: the images that the models were trained on, in folders of their class names.
        held_out: the last part of each class, which no model was trained on; a fifth after `dfml zoo build`.
        per_class: images of a class, of either kind.
        zoo: the zoo of the run, where it has moved.
        out: a JSON file; privacy.json of the run unless given.
    """
    from dfml.data import load_split
    from dfml.files import to_json, write_atomic
    from dfml.report.tables import privacy_table
    from dfml.runs.privacy import audit_privacy as attacks
    from dfml.runs.run import Run

    opened = Run.open(run, zoo=zoo)
    known = set(opened.zoo.class_names.values())
    images = load_split(data, "train", known=known, size=opened.zoo.canvas.size)
    found = list(attacks(opened, images, held_out=held_out, per_class=per_class))
    console.print(privacy_table(found))
    for attack in found:
        if attack.control and attack.tells:
            say(f"{attack.name}: nothing is known here, so the two kinds of images differ by something else")
    write_atomic(to := out or run / "privacy.json", to_json({"schema": 1, "attacks": [asdict(a) for a in found]}))
    say(f"written: {to}")
