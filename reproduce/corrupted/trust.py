"""How far a run of TEAPOT trusts the bad models of a corrupted zoo, and how far the others.

python reproduce/corrupted/trust.py RUN --zoo ZOO --bad bad.json
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean

from dfml.runs.run_folder import RunFolder
from dfml.zoo import Zoo


def main() -> None:
    """Print the mean logit of each kind of model, and how often a bad one ranks below a good one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the run folder")
    parser.add_argument("--zoo", required=True, help="the corrupted zoo")
    parser.add_argument("--bad", type=Path, required=True, help="what build.py printed")
    args = parser.parse_args()
    saved = RunFolder(args.run).checkpoints.latest()
    if saved is None:
        raise SystemExit(f"{args.run} has no checkpoint")
    bad = json.loads(args.bad.read_text())
    logits = dict(zip(Zoo.open(args.zoo).ids, saved["state"]["policy"]["logits"].tolist(), strict=True))
    kinds = defaultdict(list)
    for model, logit in logits.items():
        kinds[bad.get(model, "good")].append(logit)
    for kind, values in sorted(kinds.items()):
        print(f"{kind:<10} {len(values):>4} models, mean logit {fmean(values):+.3f}")
    good = kinds.pop("good")
    pairs = [(g > b) + 0.5 * (g == b) for g in good for values in kinds.values() for b in values]
    print(f"a bad model ranks below a good one in {100 * fmean(pairs):.0f} % of pairs (50 is chance)")


if __name__ == "__main__":
    main()
