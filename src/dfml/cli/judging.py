"""Judging a predictor on images of its own classes, and a run by doing it again."""

from pathlib import Path

from tyro.conf import Positional

from dfml.cli.answering import say_unread
from dfml.cli.show import console, counting, say
from dfml.errors import InputError, PartialFailure
from dfml.files import to_json, write_atomic

RESULT = "result.json"


def is_predictor(folder: Path) -> bool:
    """Whether a folder holds a predictor, and no run."""
    return (folder / "predictor.json").is_file() and not (folder / "config.json").exists()


def evaluate_predictor(folder: Path, data: Path, *, ground: str) -> None:
    """See `dfml.cli.commands.evaluate`."""
    from dfml.data.folders import class_folders
    from dfml.evaluation.confusion import judge
    from dfml.learners.predictor_file import load_predictor
    from dfml.learners.task_classifier import FileAnswer
    from dfml.report import confusion_table

    classifier = load_predictor(folder)
    files = [(name, path) for name, paths in class_folders(data).items() for path in paths]
    unread: list[InputError] = []
    answers: list[tuple[str, FileAnswer]] = []
    with counting("images", len(files)) as count:
        said = classifier.label_files([path for _, path in files], ground=ground)
        for (name, _), answer in zip(files, said, strict=True):
            count()
            if answer.error is None:
                answers.append((name, answer))
            else:
                unread.append(answer.error)
    judged = judge(classifier, answers)
    mean, low, high = judged.accuracy
    console.print(confusion_table(judged))
    say(f"{mean:.1f} % of {len(answers)} images right (95 % interval {low:.1f} to {high:.1f})")
    say(f"expected calibration error {judged.calibration_error:.1f} points")
    values = {"schema": 1, "data": str(data), "unread": len(unread)} | judged.to_dict()
    write_atomic(folder / RESULT, to_json(values))
    say(f"written: {folder / RESULT}")
    say_unread(unread, len(answers))


def verify(run: Positional[Path], /, *, data: str | None = None, zoo: str | None = None, steps: int = 1) -> None:
    """Check that a run is what it says: its files, its models, some steps of its training, and its result.

    Every checksum is computed anew, steps are taken again from the beginning and from the oldest checkpoint that is
    kept, and with --data the run is judged again on the same episodes. The run's folder is left as it is.

    Args:
        run: the run folder.
        data: the images that it was judged on; without it, the result is not checked.
        zoo: the zoo of the run, where it has moved.
        steps: so many steps are taken again.
    """
    from dfml.runs.run import Run
    from dfml.runs.verify import verify as findings

    differ = 0
    for found in findings(Run.open(run, zoo=zoo), data, steps=steps):
        say(f"{found.outcome:<12} {found.what}: {found.detail}")
        differ += found.outcome == "differs"
    if differ:
        raise PartialFailure(f"{run}: {differ} {'thing differs' if differ == 1 else 'things differ'}")
