"""A corrupted copy of a sound zoo: a share of its models is replaced by bad ones, of three kinds in turn.

    python reproduce/corrupted/build.py --zoo ZOO --share 0.4 --seed 1 --out OUT > bad.json

Untrained networks with the accuracy of the models that they replace; networks of another domain (the embedded glyphs)
that claim classes of this zoo; sound networks whose classes are named in another order. Nothing on a card tells a bad
model from a good one. What is printed says which are bad, and how.
"""

import argparse
import json
import sys
from pathlib import Path

from dfml.randomness import Rng
from dfml.zoo import Zoo

sys.path.append(str(Path(__file__).parents[1] / "audit"))

from spoil import foreign, shuffled, spoil, untrained

KINDS = (untrained, foreign, shuffled)


def corrupt(zoo: Zoo, folder: Path, *, share: float, seed: int, other: Zoo | None = None) -> dict[str, str]:
    """Write the corrupted copy.

    Args:
        zoo: the sound one.
        folder: of the copy.
        share: of its models that are bad.
        seed: decides which.
        other: where networks of another domain come from; None is the embedded glyphs.

    Returns:
        Id of each bad model -> how it was made.
    """
    return spoil(zoo, folder, bad=round(share * len(zoo)), rng=Rng(seed), kinds=KINDS, other=other)


def main() -> None:
    """Corrupt one zoo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", required=True, help="the sound zoo")
    parser.add_argument("--share", type=float, required=True, help="of bad models, 0 to 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    print(json.dumps(corrupt(Zoo.open(args.zoo), args.out, share=args.share, seed=args.seed), indent=1))


if __name__ == "__main__":
    main()
