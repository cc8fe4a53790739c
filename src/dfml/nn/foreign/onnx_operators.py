"""What the operators of ONNX compute, in torch: those of image classifiers.

https://onnx.ai/onnx/operators/. Each takes the node's attributes and its inputs; an input that is left out is None.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Attributes = dict[str, Any]
Operator = Callable[..., Any]

DTYPES = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64}
"""Numbers of ONNX's types."""


def _pads(a: Attributes, x: Tensor, kernel: list[int]) -> list[int]:
    """As torch's `pad` wants them: last axis first, beginning and end."""
    strides, dilations = a.get("strides", [1] * len(kernel)), a.get("dilations", [1] * len(kernel))
    where = a.get("auto_pad", "NOTSET")
    if where in ("SAME_UPPER", "SAME_LOWER"):
        pairs = []
        for size, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
            total = max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
            pairs.append(
                (total // 2, total - total // 2) if where == "SAME_UPPER" else (total - total // 2, total // 2)
            )
    else:
        given = a.get("pads", [0] * 2 * len(kernel))
        pairs = list(zip(given[: len(kernel)], given[len(kernel) :], strict=True))
    return [p for pair in reversed(pairs) for p in pair]


def _conv(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    pads = _pads(a, x, list(weight.shape[2:]))
    strides, dilations = a.get("strides", 1), a.get("dilations", 1)
    even = all(pads[i] == pads[i + 1] for i in range(0, len(pads), 2))
    padding = pads[::2][::-1] if even else 0
    function = F.conv1d if x.ndim == 3 else F.conv2d
    return function(x if even else F.pad(x, pads), weight, bias, strides, padding, dilations, a.get("group", 1))


def _max_pool(a: Attributes, x: Tensor) -> Tensor:
    kernel = a["kernel_shape"]
    padded = F.pad(x, _pads(a, x, kernel), value=-torch.inf)
    return F.max_pool2d(
        padded, kernel, a.get("strides", 1), 0, a.get("dilations", 1), ceil_mode=bool(a.get("ceil_mode", 0))
    )


def _average_pool(a: Attributes, x: Tensor) -> Tensor:
    kernel, pads = a["kernel_shape"], _pads(a, x, a["kernel_shape"])
    options = {"stride": a.get("strides", 1), "ceil_mode": bool(a.get("ceil_mode", 0))}
    summed = F.avg_pool2d(F.pad(x, pads), kernel, **options)
    if a.get("count_include_pad", 0) or not any(pads):
        return summed
    return summed / F.avg_pool2d(F.pad(torch.ones_like(x[:1, :1]), pads), kernel, **options)


def _gemm(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    x, weight = x.mT if a.get("transA") else x, weight.mT if a.get("transB") else weight
    product = a.get("alpha", 1.0) * (x @ weight)
    return product if bias is None else product + a.get("beta", 1.0) * bias


def _axes(a: Attributes, axes: Tensor | None, x: Tensor) -> list[int]:
    given = axes.tolist() if axes is not None else a.get("axes")
    return list(range(x.ndim)) if given is None else list(given)


def _reduced(function: Callable[..., Tensor]) -> Operator:
    def reduce(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        if axes is None and "axes" not in a and a.get("noop_with_empty_axes"):
            return x
        return function(x, dim=_axes(a, axes, x), keepdim=bool(a.get("keepdims", 1)))

    return reduce


def _reshape(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    sizes = shape.tolist()
    if not a.get("allowzero", 0):
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return x.reshape(sizes)


def _flatten(a: Attributes, x: Tensor) -> Tensor:
    axis = a.get("axis", 1) % (x.ndim + 1)
    return x.reshape(int(torch.tensor(x.shape[:axis]).prod()) if axis else 1, -1)


def _squeeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    given = axes.tolist() if axes is not None else a.get("axes")
    return x.squeeze() if given is None else x.squeeze(tuple(given))


def _unsqueeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    given = _axes(a, axes, x)
    for axis in sorted(axis % (x.ndim + len(given)) for axis in given):
        x = x.unsqueeze(axis)
    return x


def _slice(
    a: Attributes,
    x: Tensor,
    starts: Tensor | None = None,
    ends: Tensor | None = None,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    first = starts.tolist() if starts is not None else a["starts"]
    last = ends.tolist() if ends is not None else a["ends"]
    which = axes.tolist() if axes is not None else a.get("axes", list(range(len(first))))
    stride = steps.tolist() if steps is not None else [1] * len(first)
    for axis, start, end, step in zip(which, first, last, stride, strict=True):
        places = torch.arange(x.shape[axis])[slice(start, end, step)] if step > 0 else None
        if places is None:
            raise NotImplementedError("Slice with a negative step")
        x = x.index_select(axis, places.to(x.device))
    return x


def _gather(a: Attributes, x: Tensor, indices: Tensor) -> Tensor:
    axis = a.get("axis", 0) % x.ndim
    chosen = x.index_select(axis, (indices.reshape(-1) % x.shape[axis]).to(x.device))
    return chosen.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def _split(a: Attributes, x: Tensor, sizes: Tensor | None = None) -> list[Tensor]:
    axis = a.get("axis", 0)
    if sizes is not None or "split" in a:
        return list(x.split(sizes.tolist() if sizes is not None else a["split"], axis))
    return list(x.chunk(int(a["num_outputs"]), axis))


def _pad(
    a: Attributes, x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    given = pads.tolist() if pads is not None else a["pads"]
    which = [axis % x.ndim for axis in axes.tolist()] if axes is not None else list(range(x.ndim))
    each = {axis: (given[i], given[i + len(which)]) for i, axis in enumerate(which)}
    turned = [p for axis in reversed(range(x.ndim)) for p in each.get(axis, (0, 0))]
    mode = a.get("mode", "constant")
    if mode == "constant":
        return F.pad(x, turned, value=0.0 if value is None else float(value))
    return F.pad(x, turned[:4], mode={"edge": "replicate", "reflect": "reflect"}[mode])


def _layer_norm(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    axis = a.get("axis", -1) % x.ndim
    return F.layer_norm(x, x.shape[axis:], weight, bias, a.get("epsilon", 1e-5))


def _clip(a: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    least = float(low) if low is not None else a.get("min")
    return x.clamp(least, float(high) if high is not None else a.get("max"))


def _softmax(a: Attributes, x: Tensor) -> Tensor:
    return x.softmax(a.get("axis", -1))


def _gelu(a: Attributes, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=a.get("approximate", "none"))


def _hard_sigmoid(a: Attributes, x: Tensor) -> Tensor:
    return (a.get("alpha", 0.2) * x + a.get("beta", 0.5)).clamp(0, 1)


def _division(a: Attributes, x: Tensor, y: Tensor) -> Tensor:
    return torch.div(x, y, rounding_mode=None if x.is_floating_point() else "trunc")


def _expand(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    return x * torch.ones(shape.tolist(), dtype=x.dtype, device=x.device)


def _constant_of_shape(a: Attributes, shape: Tensor) -> Tensor:
    value = a.get("value", torch.zeros(1))
    return value.reshape(()).expand(shape.tolist()).clone()


def _plain(function: Callable[..., Tensor]) -> Operator:
    return lambda a, *inputs: function(*inputs)


OPERATORS: dict[str, Operator] = {
    "Add": _plain(torch.add),
    "And": _plain(torch.logical_and),
    "AveragePool": _average_pool,
    "Cast": lambda a, x: x.to(DTYPES[a["to"]]),
    "Clip": _clip,
    "Concat": lambda a, *inputs: torch.cat(inputs, a["axis"]),
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "Div": _division,
    "Dropout": lambda a, x, *rest: x,
    "Elu": lambda a, x: F.elu(x, a.get("alpha", 1.0)),
    "Equal": _plain(torch.eq),
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda a, x: x.mean(tuple(range(2, x.ndim)), keepdim=True),
    "GlobalMaxPool": lambda a, x: x.amax(tuple(range(2, x.ndim)), keepdim=True),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda a, x: F.hardswish(x),
    "Identity": lambda a, x: x,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda a, x: F.leaky_relu(x, a.get("alpha", 0.01)),
    "Log": _plain(torch.log),
    "LogSoftmax": lambda a, x: x.log_softmax(a.get("axis", -1)),
    "MatMul": _plain(torch.matmul),
    "Max": lambda a, *inputs: torch.stack(torch.broadcast_tensors(*inputs)).amax(0),
    "MaxPool": _max_pool,
    "Min": lambda a, *inputs: torch.stack(torch.broadcast_tensors(*inputs)).amin(0),
    "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg),
    "PRelu": lambda a, x, slope: torch.where(x < 0, slope * x, x),
    "Pad": _pad,
    "Pow": _plain(torch.pow),
    "Range": lambda a, start, end, step: torch.arange(start.item(), end.item(), step.item()),
    "Reciprocal": _plain(torch.reciprocal),
    "ReduceL2": _reduced(lambda x, dim, keepdim: x.square().sum(dim, keepdim).sqrt()),
    "ReduceMax": _reduced(torch.amax),
    "ReduceMean": _reduced(torch.mean),
    "ReduceMin": _reduced(torch.amin),
    "ReduceSum": _reduced(torch.sum),
    "Relu": _plain(torch.relu),
    "Reshape": _reshape,
    "Shape": lambda a, x: torch.tensor(x.shape)[a.get("start", 0) : a.get("end", x.ndim)],
    "Sigmoid": _plain(torch.sigmoid),
    "Slice": _slice,
    "Softmax": _softmax,
    "Softplus": lambda a, x: F.softplus(x),
    "Split": _split,
    "Sqrt": _plain(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _plain(torch.sub),
    "Swish": lambda a, x: F.silu(x),
    "Tanh": _plain(torch.tanh),
    "Transpose": lambda a, x: x.permute(a.get("perm", list(range(x.ndim))[::-1])),
    "Unsqueeze": _unsqueeze,
    "Where": _plain(torch.where),
}
"""Name of an operator -> what computes it."""
