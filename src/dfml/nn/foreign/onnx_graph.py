"""An ONNX graph as a torch module: gradients flow, BatchNorm and the head are layers."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dfml.errors import InputError
from dfml.nn.foreign.base import library
from dfml.nn.foreign.onnx_operators import OPERATORS

OWN = ("BatchNormalization", "Constant")  # operators that are no functions here


class OnnxGraph(nn.Module):
    """The nodes of a graph, one after another.

    Its large constants are buffers, so that they move with it; small integers, which say shapes, stay on the CPU.

    Args:
        content: of an ONNX file, whole.

    Raises:
        InputError: an operator that is not known here.
    """

    def __init__(self, content: bytes):
        super().__init__()
        onnx = library("onnx", "onnx")
        graph = onnx.load_from_string(content).graph
        values = {t.name: _tensor(onnx, t) for t in graph.initializer}
        nodes = [(n.op_type, list(n.input), list(n.output), _attributes(onnx, n)) for n in graph.node]
        if unknown := sorted({kind for kind, *_ in nodes} - OPERATORS.keys() - set(OWN)):
            raise InputError(f"ONNX operators {', '.join(unknown)}", f"those of {', '.join(OPERATORS)}", "black box")
        self.input = next(i.name for i in graph.input if i.name not in values)
        self.output, self.nodes, self._constants = graph.output[0].name, list[Any](), dict[str, Tensor]()
        for kind, inputs, outputs, attributes in nodes:
            if kind == "Constant":
                values[outputs[0]] = _constant(attributes)
            elif kind == "BatchNormalization":
                self.nodes.append(
                    (_named(self, "batch_norm", _norm(inputs, values, attributes)), inputs[:1], outputs, {})
                )
            elif outputs[0] == self.output and (layer := _linear(kind, inputs, values, attributes)):
                self.nodes.append((_named(self, "head", layer), inputs[:1], outputs, {}))
            else:
                self.nodes.append((kind, inputs, outputs, attributes))
        used = {name for _, inputs, *_ in self.nodes for name in inputs}
        self._buffers_of: dict[str, str] = {}
        for name, value in ((n, v) for n, v in values.items() if n in used):
            if value.is_floating_point():
                self._buffers_of[name] = f"constant_{len(self._buffers_of)}"
                self.register_buffer(self._buffers_of[name], value)
            else:
                self._constants[name] = value
        self._last_use = {name: i for i, (_, inputs, *_) in enumerate(self.nodes) for name in inputs}

    def forward(self, x: Tensor) -> Tensor:
        """The graph's first output."""
        values: dict[str, Any] = {self.input: x, "": None} | self._constants
        values |= {name: getattr(self, buffer) for name, buffer in self._buffers_of.items()}
        for i, (kind, inputs, outputs, attributes) in enumerate(self.nodes):
            given = [values[name] for name in inputs]
            function = partial(OPERATORS[kind], attributes) if kind in OPERATORS else self.get_submodule(kind)
            result = function(*given)
            values |= zip(outputs, result if isinstance(result, list) else [result], strict=False)
            for name in {n for n in inputs if n and self._last_use[n] == i and n != self.output}:
                del values[name]  # so that activations do not pile up
        return values[self.output]


def _named(module: nn.Module, kind: str, layer: nn.Module) -> str:
    name = kind if kind == "head" else f"{kind}_{len(list(module.children()))}"
    module.add_module(name, layer)
    return name


def _tensor(onnx: Any, value: Any) -> Tensor:
    return torch.from_numpy(np.array(onnx.numpy_helper.to_array(value)))


def _attributes(onnx: Any, node: Any) -> dict[str, Any]:
    found = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    for name, value in found.items():
        if isinstance(value, bytes):
            found[name] = value.decode()
        elif isinstance(value, onnx.TensorProto):
            found[name] = _tensor(onnx, value)
    return found


def _constant(attributes: dict[str, Any]) -> Tensor:
    (value,) = attributes.values()
    return value if isinstance(value, Tensor) else torch.tensor(value)


def _norm(inputs: list[str], values: dict[str, Tensor], attributes: dict[str, Any]) -> nn.BatchNorm2d:
    names = ("weight", "bias", "running_mean", "running_var")
    state = dict(zip(names, (values[name] for name in inputs[1:]), strict=True))
    layer = nn.BatchNorm2d(len(state["weight"]), eps=attributes.get("epsilon", 1e-5))
    layer.load_state_dict(state, strict=False)
    return layer


def _linear(kind: str, inputs: list[str], values: dict[str, Tensor], attributes: dict[str, Any]) -> nn.Linear | None:
    """The layer of a Gemm whose weights are constants, as any exporter writes a head."""
    plain = attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0 and not attributes.get("transA")
    if kind != "Gemm" or not plain or not all(name in values for name in inputs[1:]):
        return None
    weight = values[inputs[1]] if attributes.get("transB") else values[inputs[1]].mT
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=len(inputs) > 2)
    layer.load_state_dict({"weight": weight} | ({"bias": values[inputs[2]].reshape(-1)} if len(inputs) > 2 else {}))
    return layer
