"""A zoo of a few tiny classifiers, trained here, then opened and asked.

python examples/build_a_zoo.py --out my_zoo
"""

import argparse
from pathlib import Path

from dfml import Zoo
from dfml.data import glyphs
from dfml.zoo_building.build import TrainingRecipe, build_zoo


def main() -> None:
    """Build, open, and let the first model answer about images of its own classes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("example_zoo"), help="a new folder, or one to go on with")
    options = parser.parse_args()

    data = glyphs(per_class=(100, 1, 1))
    training = TrainingRecipe(epochs=options.epochs)
    build_zoo(
        data, out=options.out, architecture="conv4", models=options.models, width=8, jobs=1, training=training
    )  # called again, it keeps the models that are there

    zoo = Zoo.open(options.out)
    for name in zoo.ids:
        card = zoo.cards[name]
        print(f"{name}: {card.architecture}, classes {', '.join(card.class_names)}, {card.accuracy['mean']:.0f} %")

    teacher, wanted = zoo.teacher(zoo.ids[0]), zoo.cards[zoo.ids[0]].class_names
    known = data.train.class_names.index(wanted[0])
    answers = teacher.answers(data.train.batch(data.train.members[known][-20:])).argmax(-1)
    print(f"{zoo.ids[0]} calls {int((answers == 0).sum())} of 20 images of {wanted[0]} so")


if __name__ == "__main__":
    main()
