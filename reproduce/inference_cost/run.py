"""What an image costs at inference: each network that consolidation can fill, and the zoo in its place.

    OMP_NUM_THREADS=1 python reproduce/inference_cost/run.py --zoo ZOO

Features of 64 images at once on one thread, BatchNorm folded (`inference_copy`), as evaluation and shipped predictors
compute them. Median of 15 passes, networks in turn; multiply-adds as torch counts them. Lines go to ``results.jsonl``.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from dfml.methods import ZooEnsemble
from dfml.nn import AnsweringBackbone, Encoder, build_backbone, inference_copy
from dfml.nn.precision import mixed_precision
from dfml.randomness import Rng
from dfml.zoo import Zoo

NETWORKS = {"conv4-32": ("conv4", 32), "conv4-64": ("conv4", 64), "resnet12-16": ("resnet12", 16)}
NETWORKS |= {"resnet12-64": ("resnet12", 64)}
IMAGES, PASSES = 64, 15


def networks(zoo: Zoo) -> dict[str, list[Encoder]]:
    """By name: one encoder that answers like the zoo, or all of the zoo's."""
    spec, classes = zoo.canvas, [zoo.rows(i).tolist() for i in zoo.ids]
    made = {}
    for name, (architecture, width) in NETWORKS.items():
        backbone = build_backbone(architecture, image_size=spec.size, channels=spec.channels, width=width)
        made[name] = [Encoder(AnsweringBackbone(backbone, classes, hidden=512), spec)]
    return made | {f"zoo of {len(zoo)}": ZooEnsemble().init(zoo, Rng(0)).learner.frozen_encoders or []}


@torch.inference_mode()
def measure(zoo: Zoo) -> list[dict[str, Any]]:
    """A line for each."""
    spec, lines, fused = zoo.canvas, [], {}
    images = torch.rand(IMAGES, spec.channels, spec.size, spec.size)
    for name, encoders in networks(zoo).items():
        parameters = sum(p.numel() for e in encoders for p in e.parameters())
        with FlopCounterMode(display=False) as counter:
            for encoder in encoders:
                encoder.eval()(images[:1])
        lines.append({"network": name, "parameters": parameters, "multiply_adds": counter.get_total_flops() // 2})
        fused[name] = [inference_copy(e) for e in encoders]
    times: dict[str, list[float]] = {name: [] for name in fused}
    for _ in range(PASSES + 1):  # the first one warms up
        for name, encoders in fused.items():
            start = time.perf_counter()
            with mixed_precision():
                for encoder in encoders:
                    encoder(images)
            times[name].append(time.perf_counter() - start)
    for line in lines:
        line["ms_an_image"] = round(1000 * median(times[line["network"]][1:]) / IMAGES, 3)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = measure(Zoo.open(args.zoo))
    path = Path(__file__).parent / "results.jsonl"
    path.write_text("".join(json.dumps(line | {"torch": torch.__version__}) + "\n" for line in lines))
    print("| network | parameters | multiply-adds an image | ms an image |\n|---|---|---|---|")
    for line in lines:
        million = (f"{line[key] / 1e6:.2f} M" for key in ("parameters", "multiply_adds"))
        print("|", " | ".join([line["network"], *million, str(line["ms_an_image"])]), "|")


if __name__ == "__main__":
    main()
