"""Hostile inputs for every parser, for some minutes: `make fuzz`. Says how many were tried, and which were not refused.

python tests/reliability/fuzz.py --minutes 30 --seed 0
"""

import argparse
import hashlib
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from damage import Kind
from http_requests import requests
from kinds import kinds
from mutating import mutated
from small import make_data, make_zoo

from dfml.errors import InputError
from dfml.recipes.resolving import resolve
from dfml.zoo import Zoo
from dfml.zoo.files import read_network

LONGEST = 20  # seconds that an input may take
MORE_MEMORY = 2 * 2**20  # KiB beyond what there was


def parsers(folder: Path, stack: ExitStack) -> list[Kind]:
    """Every kind of file, what reads a recipe and a weight file whose checksum fits, and requests to servers."""
    make_zoo(folder / "zoo")
    make_data(folder / "data")
    (folder / "made").mkdir()
    every = kinds(folder, folder / "made")
    (recipe := folder / "recipe.toml").write_text(RECIPE)
    zoo = Zoo.open(folder / "zoo")
    card = zoo.cards[zoo.ids[0]]
    (weights := folder / "alone" / f"{card.id}.safetensors").parent.mkdir()
    weights.write_bytes((folder / "zoo" / weights.name).read_bytes())

    def network():
        return read_network(weights.parent, replace(card, sha256=hashlib.sha256(weights.read_bytes()).hexdigest()))

    every += [Kind("recipe", recipe, lambda: resolve(recipe)), Kind("weights, checksum right", weights, network)]
    return [*every, *requests(folder, stack)]


RECIPE = """[run]
steps = 3
seed = 0
[method]
name = "free"
images_per_class = 6
[recovery]
name = "meta_generator"
latent = 8
[learner]
name = "protonet"
[network]
name = "conv4"
width = 4
"""


def fault(kind: Kind) -> str:
    """What is wrong with how the file is read now; empty where it is refused in words, or read."""
    signal.alarm(LONGEST)
    try:
        kind.read()
    except InputError:
        return ""
    except TimeoutError:
        return f"more than {LONGEST} seconds"
    except Exception:
        return traceback.format_exc()
    finally:
        signal.alarm(0)
    return ""


def late(*_: object) -> None:
    raise TimeoutError


def fuzz(every: list[Kind], *, minutes: float = float("inf"), most: int | None = None, seed: int = 0) -> Counter:
    """Mutate files in turn; Counter of inputs by kind, and of faults under ``fault: ...``."""
    counts, start, drawn = Counter[str](), time.monotonic(), random.Random(seed)
    contents = {kind.name: kind.path.read_bytes() for kind in every}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGALRM, late)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while time.monotonic() - start < 60 * minutes and (most is None or sum(counts.values()) < most):
            for kind in every:
                changed = mutated(contents[kind.name], drawn)
                kind.path.write_bytes(changed)
                counts[kind.name] += 1
                wrong = fault(kind)
                if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > memory + MORE_MEMORY:
                    memory, wrong = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "too much memory"
                if wrong:
                    counts[f"fault: {kind.name}: {wrong.strip().splitlines()[-1][:150]}"] += 1
                    Path(tempfile.gettempdir(), f"fuzz-{hashlib.sha256(changed).hexdigest()[:12]}").write_bytes(changed)
                    print(f"{kind.name}: {changed[:300]!r}\n{wrong}", file=sys.stderr)
                kind.path.write_bytes(contents[kind.name])
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="kinds in whose name this regular expression is found: ^(?!HTTP)")
    given = parser.parse_args()
    time.sleep = lambda seconds: None  # a learner's files are read again after a while where they do not fit
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        every = [kind for kind in parsers(Path(folder), stack) if re.search(given.only, kind.name)]
        counts = fuzz(every, minutes=given.minutes, seed=given.seed)
    for name, count in counts.items():
        print(f"{count:9,}  {name}")
    faults = sum(count for name, count in counts.items() if name.startswith("fault"))
    print(f"{sum(counts.values()) - faults:9,}  inputs, {faults} not refused in words")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
