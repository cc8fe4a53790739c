"""Models that are not dfml's, for tests: built here, saved as their users would save them."""

import json

import pytest
import torch
from torch import nn

from dfml.zoo import Zoo, add, add_http
from dfml.zoo.loaders import loaders

CLASSES = ("ant", "bee", "cow")


class Net(nn.Module):
    """Convolution, BatchNorm, pooling, head."""

    def __init__(self, classes: int = 3, width: int = 6, seed: int = 0, channels: int = 3):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.stem = nn.Conv2d(channels, width, 3, padding=1)
            self.norm = nn.BatchNorm2d(width)
            self.body = nn.Conv2d(width, width, 3, stride=2, padding=1)
            self.fc = nn.Linear(width, classes)
            self.norm.running_mean.uniform_(-0.1, 0.1)
            self.norm.running_var.uniform_(0.5, 1.5)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        return self.fc(torch.relu(self.body(x)).mean((2, 3)))


class Odd(nn.Module):
    """Gives what its ``kind`` says."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind, self.net = kind, Net()

    def forward(self, x):
        logits = self.net(x)
        gives = {
            "probabilities": lambda: logits.softmax(-1),
            "labels": lambda: logits.argmax(-1),
            "one number": lambda: logits[:, :1],
            "maps": lambda: self.net.stem(x),
            "nan": lambda: logits / 0 * 0,
            "random": lambda: logits + torch.rand(3),
            "batch": lambda: logits - logits.mean(0) + logits.mean(),
            "dictionary": lambda: {"scores": logits},
            "frozen": lambda: self.net(x.detach()),
        }
        return gives[self.kind]()


def broken():
    """A function that gives no network."""
    return "no network"


IMAGES = {"size": 16, "mean": (0.5,), "std": (0.25,)}


def _dfml(folder):
    glyphs = Zoo.open("glyphs")
    return add(folder / "zoo", glyphs.path / f"{glyphs.ids[0]}.json")


def _python(folder):
    return add(folder / "zoo", "python:foreign_models:Net", class_names=CLASSES, images=IMAGES, trust=True)


def _export(folder):
    batch = torch.export.Dim("batch")
    program = torch.export.export(Net().eval(), (torch.rand(2, 3, 16, 16),), dynamic_shapes=({0: batch},))
    torch.export.save(program, folder / "net.pt2")
    return add(folder / "zoo", folder / "net.pt2", class_names=CLASSES, images=IMAGES, trust=True)


def _onnx(folder):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    batch = torch.export.Dim("batch")
    torch.onnx.export(Net().eval(), (torch.rand(2, 3, 16, 16),), folder / "net.onnx", dynamic_shapes=({0: batch},))
    return add(folder / "zoo", folder / "net.onnx", class_names=CLASSES, images=IMAGES)


def _timm(folder):
    timm = pytest.importorskip("timm")
    network = timm.create_model("test_resnet", num_classes=3)
    torch.save(network.state_dict(), folder / "weights.pth")
    return add(
        folder / "zoo", "timm:test_resnet", weights=folder / "weights.pth", class_names=CLASSES, images={"size": 64}
    )


def _torchvision(folder):
    torchvision = pytest.importorskip("torchvision")
    network = torchvision.models.get_model("mobilenet_v3_small", num_classes=3)
    torch.save(network.state_dict(), folder / "weights.pth")
    source, images = "torchvision:mobilenet_v3_small", {"size": 64}
    return add(folder / "zoo", source, weights=folder / "weights.pth", class_names=CLASSES, images=images)


def _transformers(folder):
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3
    )
    config.id2label = dict(enumerate(CLASSES))
    transformers.AutoModelForImageClassification.from_config(config).save_pretrained(folder / "resnet")
    processor = {
        "do_resize": True,
        "size": {"height": 32, "width": 32},
        "image_mean": [0.5] * 3,
        "image_std": [0.25] * 3,
    }
    (folder / "resnet" / "preprocessor_config.json").write_text(json.dumps(processor))
    return add(folder / "zoo", folder / "resnet")


SERVERS = []  # threads that end with the process


def _http(folder):
    pytest.importorskip("fastapi")
    from http_servers import Server

    SERVERS.append(Server().up())
    return add_http(folder / "zoo", SERVERS[-1].url)


MADE = {
    "dfml": _dfml,
    "export": _export,
    "http": _http,
    "onnx": _onnx,
    "python": _python,
    "timm": _timm,
    "torchvision": _torchvision,
    "transformers": _transformers,
}
"""Prefix of a source -> what adds a model of it to a zoo in a folder; skips where its library is not installed."""


def zoo_of(prefix, folder):
    """A zoo with a model of this source, and its id; the loader of another package brings its own."""
    card = (MADE.get(prefix) or loaders()[prefix].example)(folder)
    return Zoo.open(folder / "zoo"), card.id
