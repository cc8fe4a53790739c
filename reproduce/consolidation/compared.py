"""What each part of a consolidated network's features is worth, for finished runs, on validation classes.

    python reproduce/consolidation/compared.py RUN ... --zoo ZOO --data DATA

A run on fewer models than the zoo has was trained on its first ones (`reproduce/zoo_size`). Prints a table: 5-way
1-shot / 5-shot accuracy in percent, 10,000 episodes, ridge regression.
"""

import argparse
from pathlib import Path

import torch

from dfml.data import load_data
from dfml.runs.run import Run
from dfml.runs.run_folder import RunFolder
from dfml.zoo import Zoo
from run import Bench

PARTS = ("answers", "with posterior", "with hidden", "joined")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--zoo", required=True)
    parser.add_argument("--data", required=True, type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    zoo = Zoo.open(args.zoo)
    bench = Bench(zoo, load_data(args.data))
    print("| run | models | " + " | ".join(PARTS) + " |\n|" + "---|" * (2 + len(PARTS)))
    for path in args.runs:
        models = RunFolder(path).about["zoo"]["models"]
        whole = models == len(zoo)
        student = Run.open(path, zoo=zoo if whole else zoo.subset(zoo.ids[:models])).learner.frozen_encoders[0]
        scores = bench.compared(student)
        cells = ["{} / {}".format(*scores[part]["ridge"]) for part in PARTS]
        print(f"| {path.name} | {models} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
