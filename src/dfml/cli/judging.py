"""Judging a predictor on images of its own classes."""

from pathlib import Path

from dfml.cli.answering import say_unread
from dfml.cli.show import console, counting, say
from dfml.errors import InputError
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
