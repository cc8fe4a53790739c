"""Two steps of a method in float32, plain and compiled.

    python compiled.py RECIPE BACKEND ZOO

prints the metrics of both as JSON. A process of its own: compiling does not go with checking types at run time. There
are two steps because later Adam walks apart on the rounding of gradients that are zero.
"""

import json
import sys
from unittest.mock import patch

import torch
from small import CONSOLIDATE, FREE

from dfml.methods.base import teachers_of
from dfml.randomness import Rng
from dfml.recipes.resolving import resolve
from dfml.zoo import Zoo


def train(recipe: str, zoo: Zoo, *, compiled: bool) -> list[dict]:
    method = resolve(recipe, FREE if recipe == "free" else CONSOLIDATE, label=recipe).build()
    state = method.init(zoo, Rng(0).at("init"))
    if compiled:
        state.compile(torch.device("cpu"))
    metrics = []
    for number in range(2):
        rng = Rng(0).at("step", number)
        metrics.append(method.step(state, teachers_of(zoo, method.plan(state, zoo, rng)), rng).metrics())
    return metrics


if __name__ == "__main__":
    recipe, backend, path = sys.argv[1:]
    torch.set_num_threads(1)
    build = torch.compile

    def in_one_graph(function, dynamic, mode):
        return build(function, dynamic=dynamic, backend=backend, fullgraph=True)

    with patch("dfml.nn.precision.bfloat16_is_fast", lambda: False), patch("torch.compile", in_one_graph):
        print(json.dumps([train(recipe, Zoo.open(path), compiled=compiled) for compiled in (False, True)]))
