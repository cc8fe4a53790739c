"""Every family of image classifiers of timm, torchvision and transformers: added, asked, recovered from, learned from.

With random weights and at 32 to 64 pixels: what is tested is that each network's inside is understood.
"""

import json

import pytest
import torch

pytest.importorskip("timm")
pytest.importorskip("torchvision")
pytest.importorskip("transformers")

import timm
import torchvision
import transformers

from dfml import train
from dfml.errors import InputError
from dfml.randomness import Rng
from dfml.recovery import DeepInversion, MetaGenerator, Visit
from dfml.runs.inspection import inspect
from dfml.runs.untrained import adapt_zoo
from dfml.zoo import Capability, Zoo, add

CLASSES = ("ant", "bee", "cow", "dog")
PIXELS = 32
SMALL_VIT = {"img_size": PIXELS, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
SMALL_SWIN = {"img_size": PIXELS, "patch_size": 2, "window_size": 4, "embed_dim": 16}
SMALL_SWIN |= {"depths": (1, 1), "num_heads": (1, 2)}
SMALL_MIXER = {"img_size": PIXELS}

TIMM = {
    "test_resnet": {},
    "test_efficientnet": {},
    "test_convnext": {},
    "mobilenetv3_small_050": {},
    "regnetx_002": {},
    "test_nfnet": {},
    "vit_tiny_patch16_224": SMALL_VIT,
    "deit3_small_patch16_224": SMALL_VIT,
    "swin_tiny_patch4_window7_224": SMALL_SWIN,
    "mixer_s16_224": SMALL_MIXER,
}
TORCHVISION = ["resnet18", "mobilenet_v3_small", "regnet_x_400mf", "shufflenet_v2_x0_5", "squeezenet1_1"]
TWO_STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1]}
WINDOWS = {"image_size": PIXELS, "patch_size": 2, "embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2]}
PATCHES = {"image_size": PIXELS, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 2}
TRANSFORMERS = {
    "resnet": (transformers.ResNetConfig, TWO_STAGES | {"embedding_size": 8}),
    "regnet": (transformers.RegNetConfig, TWO_STAGES | {"embedding_size": 8, "groups_width": 8}),
    "vit": (transformers.ViTConfig, PATCHES | {"num_attention_heads": 2, "intermediate_size": 64}),
    "convnext": (transformers.ConvNextConfig, TWO_STAGES | {"num_stages": 2}),
    "swin": (transformers.SwinConfig, WINDOWS | {"window_size": 4}),
    "mobilenet_v2": (transformers.MobileNetV2Config, {"image_size": PIXELS, "depth_multiplier": 0.35}),
}
IMAGES = {"size": PIXELS, "width": None, "mean": (0.5,), "std": (0.25,), "crop": 1.0}


def awake(network):
    """Random weights whose answers depend on the image: statistics of random images, no head of zeros."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1 and not parameter.any():
                parameter.normal_(std=0.1)
        network.train()
        for norm in (m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.momentum = None  # the mean of all batches; some libraries would take thousands
        for _ in range(20):
            network(torch.randn(16, 3, PIXELS, PIXELS))
    return network.eval()


def add_timm(zoo, name, place):
    arguments = TIMM[name]
    torch.manual_seed(0)
    network = awake(timm.create_model(name, num_classes=len(CLASSES), **arguments))
    torch.save(network.state_dict(), place / "weights.pth")
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in arguments.items()}
    options = {"arguments": plain, "class_names": CLASSES, "images": IMAGES}
    return add(zoo, f"timm:{name}", id=f"timm-{name}", weights=place / "weights.pth", **options)


def add_torchvision(zoo, name, place):
    torch.manual_seed(0)
    network = awake(torchvision.models.get_model(name, num_classes=len(CLASSES)))
    torch.save(network.state_dict(), place / "weights.pth")
    options = {"weights": place / "weights.pth", "class_names": CLASSES, "images": IMAGES}
    return add(zoo, f"torchvision:{name}", id=f"torchvision-{name}", **options)


def add_transformers(zoo, name, place):
    kind, values = TRANSFORMERS[name]
    torch.manual_seed(0)
    config = kind(**values, num_labels=len(CLASSES))
    config.id2label = dict(enumerate(CLASSES))
    folder = place / name
    awake(transformers.AutoModelForImageClassification.from_config(config)).save_pretrained(folder)
    processor = {"size": {"height": PIXELS, "width": PIXELS}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return add(zoo, folder, id=f"transformers-{name}")


FAMILIES = (
    [(add_timm, name) for name in TIMM]
    + [(add_torchvision, name) for name in TORCHVISION]
    + [(add_transformers, name) for name in TRANSFORMERS]
)
WITHOUT_NORM = ("convnext", "vit", "swin", "mixer", "nfnet", "deit", "squeezenet")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """One zoo of them all."""
    place = tmp_path_factory.mktemp("families")
    for adds, name in FAMILIES:
        adds(place / "zoo", name, place)
    return Zoo.open(place / "zoo")


def error(teacher, images, labels):
    return torch.nn.functional.cross_entropy(teacher.forward(images).logits, labels)


@pytest.mark.parametrize(("adds", "name"), FAMILIES, ids=[f"{a.__name__[4:]}-{n}" for a, n in FAMILIES])
def test_a_family_is_understood_and_recovered_from(zoo, adds, name, tmp_path):
    model = f"{adds.__name__[4:]}-{name}"
    teacher = zoo.teacher(model)
    assert Capability.GRADIENTS in teacher.capabilities
    assert (Capability.BN_STATISTICS in teacher.capabilities) == (not any(kind in name for kind in WITHOUT_NORM))
    assert (Capability.FEATURES in teacher.capabilities) == (name != "squeezenet1_1")  # its head is a convolution
    images = torch.rand(3, 3, 40, 40)
    assert teacher.answers(images).shape == (3, len(CLASSES))
    labels = torch.arange(len(CLASSES))
    for recovery in (MetaGenerator(steps=1, adversarial_weight=0.0), DeepInversion(start="natural", steps=2)):
        (shown,) = recovery.recover(recovery.init(zoo.canvas, Rng(0)), [Visit(teacher, labels)], rng=Rng(0))
        assert shown.images.shape == (len(CLASSES), *zoo.canvas.shape)
    images = torch.rand(len(CLASSES), *zoo.canvas.shape)
    (down,) = torch.autograd.grad(error(teacher, images.requires_grad_(), labels), [images])
    with torch.no_grad():
        steps = [images - size * down / down.norm() for size in (1.0, 0.1, 0.01, 0.001)]
        assert min(error(teacher, moved, labels) for moved in steps) < error(teacher, images, labels)
    assert inspect(zoo, model, tmp_path / "sheet.png")[-1].startswith("picture")


def test_one_student_learns_from_them_all_and_the_zoo_adapts_without_it(zoo, tmp_path, image_folder):
    overrides = {"updates": 2, "batch_size": 16, "images_per_class": 2, "teachers_per_step": 3, "width": 8}
    run = train(zoo, recipe="fast", out=tmp_path / "run", steps=2, overrides=overrides | {"validation_teachers": 0})
    assert len(run.adapt(image_folder).class_names) == 2
    made = adapt_zoo(zoo, image_folder)
    assert len(made.classifier.class_names) == 2
    other = train(
        zoo, recipe="fast", out=tmp_path / "timm", steps=1,
        overrides=overrides | {"validation_teachers": 0, "network": "timm:test_resnet", "width": None},
    )  # fmt: skip
    assert len(other.adapt(image_folder).class_names) == 2


@pytest.fixture
def image_folder(tmp_path):
    from PIL import Image

    for name, colour in (("red", (200, 30, 30)), ("blue", (30, 30, 200))):
        (tmp_path / "few" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (48, 48), tuple(c + 5 * number for c in colour)).save(
                tmp_path / "few" / name / f"{number}.png"
            )
    return tmp_path / "few"


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("timm:no_such_network", {}, "timm model"),
        ("torchvision:no_such_network", {}, "torchvision model"),
        ("timm:resnet18", {}, "--weights"),
        ("torchvision:resnet18", {}, "--weights"),
        ("transformers:google/vit-base-patch16-224", {}, "--weights"),
    ],
)
def test_a_name_without_a_network_or_that_nobody_has_is_refused(tmp_path, monkeypatch, source, options, words):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(Exception, match=words):
        add(tmp_path / "zoo", source, class_names=CLASSES, **options)
    assert not (tmp_path / "zoo").exists()


def onnx_file(path, operator, domain=""):
    """An ONNX classifier of 4-pixel images that is one operator."""
    from onnx import TensorProto, helper

    nodes = [helper.make_node(operator, ["x"], ["y"], domain=domain), helper.make_node("Flatten", ["y"], ["z"])]
    images = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 4, 4])
    answers = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 48])
    sets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(helper.make_graph(nodes, "g", [images], [answers]), opset_imports=sets, ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


ONNX = {"class_names": 48, "images": {"size": 4, "mean": (0.0,) * 3, "std": (1.0,) * 3}}


def test_an_onnx_operator_that_cannot_be_translated_leaves_a_black_box_that_says_so(tmp_path):
    card = add(tmp_path / "zoo", onnx_file(tmp_path / "celu.onnx", "Celu"), **ONNX)
    assert "gradients" not in card.capabilities
    assert any("Celu" in finding for finding in card.findings)
    images = torch.rand(2, 3, 4, 4)
    answers = Zoo.open(tmp_path / "zoo").teacher("celu").answers(images)
    torch.testing.assert_close(answers, images.flatten(1))  # celu of positive numbers


@pytest.mark.parametrize(("operator", "domain"), [("MyOwn", "some.domain"), ("NoSuchOperator", "")])
def test_an_onnx_operator_that_nothing_runs_is_refused_by_name(tmp_path, operator, domain):
    with pytest.raises(InputError, match=operator):
        add(tmp_path / "zoo", onnx_file(tmp_path / "net.onnx", operator, domain), **ONNX)
    assert not (tmp_path / "zoo").exists()
