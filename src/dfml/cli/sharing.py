"""The commands that hand a classifier on: as one file, or to the hub."""

from pathlib import Path

from tyro.conf import Positional

from dfml.cli.show import say


def export(predictor: Positional[Path], out: Positional[Path], /, *, int8: bool = False) -> None:
    """Write a predictor as one ONNX or torch.export file, which needs no dfml, and a script that runs it.

    What it says of drawn images is compared with the predictor before it is written.

    Args:
        predictor: its folder; or hf:OWNER/NAME.
        out: FILE.onnx, which runs without torch, or FILE.pt2.
        int8: of .onnx: weights and activations in 8 bits, smaller and often faster, at a small loss.
    """
    from dfml.export import export as write
    from dfml.hub import fetched
    from dfml.learners.predictor_file import load_predictor

    made = write(load_predictor(fetched(predictor)), out, int8=int8)
    say(f"on drawn images: probabilities at most {made.difference:.1g} away, {made.agreement:.0f} % the same class")
    say(f"written: {made.path} ({made.path.stat().st_size / 1024:.0f} KiB) and {made.loader}:\n")
    say(made.loader.read_text(encoding="utf-8"))
    say(f"next:    python {made.loader} IMAGES...")


def push(folder: Positional[Path], repo: Positional[str], /, *, private: bool = False) -> None:
    """Put a predictor, or a run's learner, on the Hugging Face hub, with a card that says what it was made from.

    Args:
        folder: of the predictor or run.
        repo: OWNER/NAME.
        private: of a new repository.
    """
    from dfml.hub import push as put

    say(f"pushed: {put(folder, repo, private=private)}")
