"""From the embedded zoo *glyphs* to a classifier for characters that no model of the zoo has seen.

python examples/train_and_predict.py --steps 20 --out my_run
"""

import argparse
from pathlib import Path

from PIL import Image

from dfml import Zoo, load_predictor, save_predictor, train
from dfml.data import glyphs


def write_images(folder: Path, way: int, first: int, last: int) -> list[Path]:
    """Images ``first`` to ``last`` - 1 of ``way`` classes of the validation split, a folder per class."""
    images, written = glyphs(per_class=(1, last, 1)).val, []
    for c in range(way):
        (folder / f"class_{c}").mkdir(parents=True)
        for k, index in enumerate(images.members[c][first:last].tolist()):
            path = folder / f"class_{c}" / f"{k}.png"
            Image.fromarray(images.images[index].permute(1, 2, 0).numpy()).save(path)
            written.append(path)
    return written


def main() -> None:
    """Train, adapt to five images per class, keep the classifier, and ask it about other images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="more teach more")
    parser.add_argument("--updates", type=int, default=80, help="of the network, in each step")
    parser.add_argument("--out", type=Path, default=Path("example_run"), help="a new folder")
    options = parser.parse_args()

    overrides = {"method.updates": options.updates, "method.flip": False, "recovery.flip": False}  # letters have a side
    run = train(Zoo.open("glyphs"), out=options.out, recipe="fast", steps=options.steps, overrides=overrides)

    write_images(options.out / "support", way=5, first=0, last=5)
    unknown = write_images(options.out / "unknown", way=5, first=5, last=25)
    classifier = run.adapt(options.out / "support")
    save_predictor(classifier.predictor, options.out / "predictor", classifier.class_names)

    labels = load_predictor(options.out / "predictor").predict_files(unknown).labels
    right = sum(label == path.parent.name for label, path in zip(labels, unknown, strict=True))
    print(f"{right} of {len(unknown)} right; chance is {len(unknown) // 5}")


if __name__ == "__main__":
    main()
