"""A device that computes on the CPU and takes no tensor of the CPU beside its own: where a GPU would fail, it fails.

    python second_device.py RECIPE LEARNER ZOO

trains three steps on either device and prints, as JSON, the metrics of both and what the second one was waited for:
reading it, and sending to it with a copy that blocks.
``RECIPE`` is also ``zoo``, which trains teachers.
"""

import json
import os
import sys
import traceback
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import torch
from small import CONSOLIDATE, FREE
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from dfml.data import ImageSet, load_data
from dfml.evaluation.evaluate import evaluate, evaluate_transductive
from dfml.evaluation.manifest import make_manifest
from dfml.learners import AbstractLearner
from dfml.methods.base import teachers_of
from dfml.randomness import Rng
from dfml.recipes.resolving import resolve
from dfml.zoo import Zoo
from dfml.zoo_building.plan import TrainingRecipe, ZooPlan, train_teachers

NAME = "second"
aten = torch.ops.aten
TO, COPY, READ = aten._to_copy.default, aten.copy_.default, aten._local_scalar_dense.default
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
FACTORIES = (aten.empty_strided.default, aten.empty.memory_format, aten._copy_from.default, COPY, TO)
reads: list[str] = []  # places in dfml that waited for the device
writes: list[str] = []  # places that waited until the device had taken what they sent


class There(torch.Tensor):
    """A tensor of the second device; what it holds lies in ``inner``."""

    @staticmethod
    def __new__(cls, inner):
        about = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, inner.size(), device=torch.device(NAME, 0), **about)

    def __init__(self, inner):
        self.inner = inner

    def __tensor_flatten__(self):  # lets Module.to keep its Parameter objects
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(inner, _meta, _size, _stride):
        return There(inner["inner"])

    def tolist(self):
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        return compute(operator, args, kwargs or {})


class SecondDevice(TorchDispatchMode):
    """Inside, tensors can be made on the device."""

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        return compute(operator, args, kwargs or {})


def compute(operator, args, kwargs):
    """The operator on what the tensors hold; refuses to mix devices, and notes what is read from the second one."""
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    there = any(isinstance(t, There) for t in tensors)
    asked = kwargs.get("device")
    result_there = torch.device(asked).type == NAME if asked is not None else there
    if operator is COPY:
        result_there = isinstance(args[0], There)
    elif there and operator is not TO:
        strangers = [t for t in tensors if not isinstance(t, There) and (t.dim() or operator._schema.is_mutable)]
        if operator in INDEXED:  # indices may be of the CPU, but they are sent
            if any(t is not args[0] for t in strangers):
                writes.append(place())
            strangers = [t for t in strangers if t is args[0]]
        if strangers:
            message = f"{operator}: {[tuple(t.shape) for t in strangers]} on the CPU, others on the device"
            print(message, file=sys.stderr, flush=True)  # a failure within a backward pass ends the process
            raise RuntimeError(message)
    if there and (operator is READ or (operator in (TO, COPY) and not result_there)):
        reads.append(place())
    source = args[1] if operator is COPY else args[0] if args else None
    sent = operator in (TO, COPY) and result_there and not isinstance(source, There)
    if sent and not (kwargs.get("non_blocking") or (operator is COPY and args[2:] == (True,))):
        writes.append(place())
    inner_args, inner_kwargs = tree_map(lambda t: t.inner if isinstance(t, There) else t, (args, kwargs))
    out = operator(*inner_args, **(inner_kwargs | ({"device": torch.device("cpu")} if asked is not None else {})))
    if operator is COPY and not result_there:
        return args[0]
    if not result_there or operator is READ:
        return out
    wrapped = tree_map(lambda t: There(t) if isinstance(t, torch.Tensor) else t, out)
    return return_and_correct_aliasing(operator, args, kwargs, wrapped)


def place() -> str:
    """The line of dfml at work."""
    ours = [frame for frame in traceback.extract_stack() if "/dfml/" in frame.filename]
    return f"{Path(ours[-1].filename).name}: {ours[-1].line}" if ours else "elsewhere"


class _Module(backend_registration._DummyBackendModule):
    def get_rng_state(self, device=None):
        return torch.zeros(0, dtype=torch.uint8)

    def set_rng_state(self, state, device=None):
        pass


def register() -> None:
    """Tell torch of the device; once a process."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    library = torch.library.Library("aten", "IMPL")
    for operator in FACTORIES:
        kernel = lambda *args, _operator=operator, **kwargs: compute(_operator, args, kwargs)  # noqa: E731
        library.impl(operator, kernel, "PrivateUse1")
    register.library = library  # lives as long as the process


def train(recipe: str, options: dict, zoo: Zoo, device: torch.device) -> dict:
    """Metrics of three steps, a validation and an evaluation, and the places that waited in the last step."""
    method, metrics = resolve(recipe, options, label=recipe).build(), []
    zoo = zoo.on(device)
    with SecondDevice() if device.type == NAME else nullcontext():
        state = method.init(zoo, Rng(0).at("init"))
        state.to(device)
        for number in range(3):
            rng = Rng(0).at("step", number)
            reads.clear()
            writes.clear()
            metrics.append(method.step(state, teachers_of(zoo, method.plan(state, zoo, rng)), rng).metrics())
        waits = {"reads": list(reads), "writes": list(writes)}
        metrics.append(method.validate(state, Rng(0)))
        metrics.append(accuracies(method.learner(state)))
        saved = method.init(zoo, Rng(0).at("init"))
        saved.to(device)
        saved.load_state_dict(state.state_dict())
    return {"metrics": metrics, **waits}


def accuracies(learner: AbstractLearner) -> dict[str, float]:
    """Of the learner on images that are noise around a colour of their class."""
    drawn = torch.Generator().manual_seed(0)
    colours, noise = torch.rand(6, 1, 3, 1, 1, generator=drawn), torch.rand(6, 5, 3, 16, 16, generator=drawn)
    images = (255 * (colours + noise) / 2).byte().flatten(0, 1)
    shown = ImageSet("colours", images, torch.arange(6).repeat_interleave(5), tuple("abcdef"))
    manifest = make_manifest(shown, way=3, shot=1, queries=3, episodes=4, split="test")
    scores = {
        "inductive": evaluate(learner, shown, manifest, norm="support"),
        "together": evaluate_transductive(learner, shown, manifest),
    }
    return {name: score.mean for name, score in scores.items()}


def train_zoo(device: str) -> dict:
    """Two teachers: their accuracies and the places that read from the device; the first alone, too, with its hash."""
    training = TrainingRecipe(epochs=2, batch_size=32, flips=False)
    plan = ZooPlan.make(load_data("glyphs"), "conv4", 2, 3, 0, 4, training)
    reads.clear()
    writes.clear()
    with SecondDevice() if device == NAME else nullcontext():
        ((alone, _),) = train_teachers([plan.task(0, device)])
        together = train_teachers([plan.task(i, device) for i in range(2)])
    metrics = [{"sha256": alone.sha256}, *(card.accuracy for card, _ in ((alone, b""), *together))]
    return {"metrics": metrics, "reads": list(reads), "writes": list(writes)}


if __name__ == "__main__":
    recipe, learner, path = sys.argv[1:]
    torch.set_num_threads(1)
    register()
    options = FREE | {"learner": learner} if recipe == "free" else CONSOLIDATE
    if recipe != "free":  # consolidation's many meta-steps make visible that the engines round differently
        options |= {"recovery.engine": "loop"}
    with patch("dfml.nn.precision.bfloat16_is_fast", lambda: False):
        zoo = Zoo.open(path)
        if recipe == "zoo":
            both = [train_zoo(name) for name in ("cpu", NAME)]
        else:
            both = [train(recipe, options, zoo, torch.device(name)) for name in ("cpu", NAME)]
    print(json.dumps(both), flush=True)
    os._exit(0)  # autograd's thread for the device does not survive the interpreter's end
