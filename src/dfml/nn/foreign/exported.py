"""Networks written by `torch.export.save`: their graph, in which BatchNorm and the head become layers again."""

import hashlib
import io
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from dfml.errors import InputError
from dfml.nn.foreign.base import Options, Source
from dfml.nn.foreign.files import Archived

ATEN = torch.ops.aten
BATCH_NORM = {  # the operator -> places of its input, weight, bias, running mean, running variance and epsilon
    ATEN.batch_norm.default: (0, 1, 2, 3, 4, 7),
    ATEN._native_batch_norm_legit_no_training.default: (0, 1, 2, 3, 4, 6),
    ATEN.cudnn_batch_norm.default: (0, 1, 2, 3, 4, 7),
}
HEAD = "head"


def without_examples(content: bytes) -> bytes:
    """The same program without the images that it was exported with, which may be somebody's data.

    A tensor is saved with its whole storage: two images that were cut from a training set bring all of it.

    Raises:
        InputError: it cannot be read.
    """
    program = _program(content)
    if program.example_inputs is None:
        return content
    program._example_inputs = None
    without = io.BytesIO()
    torch.export.save(program, without)
    return without.getvalue()


def opened(content: bytes) -> nn.Module:
    """The network of a ``.pt2`` file's bytes.

    Torch's own reader may run code in the file, so that consent is asked for before.

    Raises:
        InputError: it cannot be read.
    """
    program = _program(content).module(check_guards=False)
    graph = fx.Graph()
    graph.output(graph.graph_copy(program.graph, {}))
    network = fx.GraphModule(program, graph)  # a plain module: the exported one refuses eval()
    for node in list(network.graph.nodes):
        if node.op == "call_module" and node.target == "_guards_fn":
            network.graph.erase_node(node)
        elif node.target in BATCH_NORM:
            _as_layer(network, node)
    _head_as_layer(network)
    network.graph.eliminate_dead_code()
    network.delete_all_unused_submodules()
    network.recompile()
    return network.eval()


def _program(content: bytes) -> torch.export.ExportedProgram:
    try:
        return torch.export.load(io.BytesIO(content))
    except Exception as error:  # whatever a damaged file makes of torch's reader
        raise InputError(
            f"a .pt2 file that torch.export cannot read ({type(error).__name__}: {str(error).splitlines()[0]})",
            "a file written by torch.export.save, by a version of torch that this one can read",
            "export the model again with this version of torch",
        ) from error


def images_of(network: fx.GraphModule) -> tuple[int | None, int | None, int | None, int | None]:
    """Batch size, channels, height and width that a graph was written for; None for each that may vary.

    Raises:
        InputError: it takes something else than images.
    """
    inputs = [node.meta.get("val") for node in network.graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1 or not isinstance(inputs[0], Tensor) or inputs[0].ndim != 4:
        shapes = [tuple(value.shape) if isinstance(value, Tensor) else value for value in inputs]
        raise InputError(
            f"a .pt2 graph that takes {shapes}",
            "one tensor of images [n, channels, height, width]",
            "export the classifier alone, with images for its only argument",
        )
    return tuple(d if isinstance(d, int) else None for d in inputs[0].shape)  # type: ignore[return-value]


def _tensor(network: fx.GraphModule, argument: Any) -> Tensor | None:
    """The tensor that a node reads from the module, if it does."""
    if not isinstance(argument, fx.Node) or argument.op != "get_attr":
        return None
    owner, _, name = str(argument.target).rpartition(".")
    value = getattr(network.get_submodule(owner), name)
    return value.detach() if isinstance(value, Tensor) else None


def _as_layer(network: fx.GraphModule, node: fx.Node) -> None:
    """A BatchNorm node as a layer, whose input can be seen."""
    x, weight, bias, mean, variance, eps = (node.args[i] for i in BATCH_NORM[node.target])  # type: ignore[index]
    values = [_tensor(network, value) for value in (weight, bias, mean, variance)]
    if values[2] is None or values[3] is None:
        return
    layer = nn.BatchNorm2d(len(values[2]), eps=float(eps))  # type: ignore[arg-type]
    names = ("weight", "bias", "running_mean", "running_var")
    layer.load_state_dict({n: v for n, v in zip(names, values, strict=True) if v is not None}, strict=False)
    name = f"batch_norm_{sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())}"
    network.add_submodule(name, layer.eval())
    with network.graph.inserting_before(node):
        called = network.graph.call_module(name, (x,))
    for user in list(node.users):
        if user.target == getattr(torch.ops, "getitem", None) or str(user.target).endswith("getitem>"):
            user.replace_all_uses_with(called)  # of the operator that gives several values, the first
            network.graph.erase_node(user)
    node.replace_all_uses_with(called)
    network.graph.erase_node(node)


def _head_as_layer(network: fx.GraphModule) -> None:
    """A linear operator whose value is the answer becomes a layer by the name of `HEAD`."""
    (output,) = [node for node in network.graph.nodes if node.op == "output"]
    found = output.args[0]
    while isinstance(found, list | tuple) and len(found) == 1:
        found = found[0]
    if not isinstance(found, fx.Node) or found.target not in (ATEN.linear.default, ATEN.addmm.default):
        return
    if found.target == ATEN.linear.default:
        x, weight = found.args[0], _tensor(network, found.args[1])
        bias = _tensor(network, found.args[2]) if len(found.args) > 2 else None
    else:
        bias, x, turned = _tensor(network, found.args[0]), found.args[1], found.args[2]
        inner = turned.args[0] if isinstance(turned, fx.Node) and turned.args else None
        weight = _tensor(network, inner)
    if weight is None:
        return
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.load_state_dict({"weight": weight} | ({"bias": bias} if bias is not None else {}))
    network.add_submodule(HEAD, layer)
    with network.graph.inserting_before(found):
        called = network.graph.call_module(HEAD, (x,))
    found.replace_all_uses_with(called)
    network.graph.erase_node(found)


def build(name: str, options: Options, classes: int) -> nn.Module:
    """An empty one; its state brings the file."""
    return Archived(int(options["bytes"]), partial(_opened_as_agreed, options["sha256"]))


def _opened_as_agreed(sha256: str, content: bytes) -> nn.Module:
    """Consent holds for one file."""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError("a .pt2 file of another content", f"sha256 {sha256}", "add the model anew")
    return opened(content)


SOURCE = Source(build, runs=lambda name, options: f"torch.export.load, on the .pt2 file {options['sha256'][:12]}...")
