"""Anybody's model into a zoo: what is found out about it, and what is refused with nothing written."""

import json
import sys

import pytest
import torch
from safetensors.torch import save_file

from dfml.consent import consent_file
from dfml.errors import InputError, NotAtHand
from dfml.functional.priors import capture_statistics
from dfml.nn import Encoder
from dfml.randomness import Rng
from dfml.zoo import Capability, Zoo, add
from dfml.zoo_building.audit import audit
from foreign_models import CLASSES, Net

IMAGES = {"size": 16, "mean": (0.5,), "std": (0.25,)}
NET, ODD = "python:foreign_models:Net", "python:foreign_models:Odd"


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Answers are compared with those of the network itself, in full precision."""
    monkeypatch.setattr("dfml.nn.precision.bfloat16_is_fast", lambda: False)


def odd(folder, kind, **changes):
    options = {"arguments": {"kind": kind}, "class_names": CLASSES, "images": IMAGES, "trust": True}
    return add(folder, ODD, **options | changes)


def exported(path, network, *, batch=None, channels=3):
    images = torch.rand(batch or 2, channels, 16, 16)
    shapes = None if batch else ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(network.eval(), (images,), dynamic_shapes=shapes), path)
    return path


def truth(images, network):
    return network.eval()((images - 0.5) / 0.25)


def content(folder):
    return sorted(p.name for p in folder.rglob("*")) if folder.exists() else None


def test_an_import_path_with_consent_is_a_white_box(tmp_path):
    card = add(tmp_path / "zoo", NET, class_names=CLASSES, images=IMAGES, trust=True, licence="MIT")
    assert Capability.named(card.capabilities) == Capability.WHITE_BOX
    assert (card.structure, card.licence, card.class_ids[0]) == ({"head": "fc", "feature_size": 6}, "MIT", "net/ant")
    teacher, images = Zoo.open(tmp_path / "zoo").teacher("net"), torch.rand(5, 3, 16, 16)
    torch.testing.assert_close(teacher.answers(images), truth(images, Net()), rtol=1e-4, atol=1e-5)
    assert teacher.features(images).shape == (5, 6)
    assert len(teacher.forward(images, statistics=True).statistics) == 1


def test_weights_of_a_named_network_are_taken_and_others_refused_by_name(tmp_path):
    save_file(Net(seed=7).state_dict(), weights := tmp_path / "mine.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in Net(seed=8).state_dict().items()}}, tmp_path / "old.pth")
    options = {"class_names": CLASSES, "images": IMAGES, "trust": True}
    add(tmp_path / "zoo", weights, like=NET, **options)
    add(tmp_path / "zoo", NET, id="older", weights=tmp_path / "old.pth", **options)
    zoo, images = Zoo.open(tmp_path / "zoo"), torch.rand(4, 3, 16, 16)
    for model, seed in (("mine", 7), ("older", 8)):
        torch.testing.assert_close(
            zoo.teacher(model).answers(images), truth(images, Net(seed=seed)), rtol=1e-4, atol=1e-5
        )
    with pytest.raises(InputError, match=r"stem\.weight: \(6, 3, 3, 3\), not \(8, 3, 3, 3\)"):
        add(tmp_path / "zoo", weights, like=NET, id="wide", arguments={"width": 8}, **options)
    with pytest.raises(InputError, match="--like"):
        add(tmp_path / "zoo", weights, **options)
    assert Zoo.open(tmp_path / "zoo").ids == ["mine", "older"]


@pytest.mark.parametrize("batch", [None, 4])
def test_an_exported_graph_has_gradients_statistics_and_a_head(tmp_path, batch):
    path = exported(tmp_path / "graph.pt2", Net(seed=3), batch=batch)
    card = add(tmp_path / "zoo", path, class_names=CLASSES, images={"mean": (0.5,), "std": (0.25,)}, trust=True)
    assert Capability.named(card.capabilities) == Capability.WHITE_BOX
    assert card.structure.get("batch") == batch
    assert card.input_spec.shape == (3, 16, 16)
    network = Zoo.open(tmp_path / "zoo").network("graph")
    images = torch.rand(5, 3, 16, 16, requires_grad=True)
    normalised = (images - 0.5) / 0.25
    with capture_statistics(network) as seen:
        logits = network(normalised)
    torch.testing.assert_close(logits, truth(images, Net(seed=3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen[0].running_mean, Net(seed=3).norm.running_mean)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), images)
    (wanted,) = torch.autograd.grad(truth(images, Net(seed=3))[:, 0].sum(), images)
    torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-6)


def test_the_images_that_a_graph_was_exported_with_stay_out_of_the_zoo(tmp_path):
    training_set = torch.rand(500, 3, 16, 16)
    program = torch.export.export(Net(seed=3).eval(), (training_set[:2],))  # brings its whole storage
    torch.export.save(program, tmp_path / "graph.pt2")
    assert (tmp_path / "graph.pt2").stat().st_size > training_set.nbytes
    add(tmp_path / "zoo", tmp_path / "graph.pt2", class_names=CLASSES, images=IMAGES, trust=True)
    assert (tmp_path / "zoo" / "graph.pt2").stat().st_size < training_set.nbytes / 10
    images = torch.rand(2, 3, 16, 16)
    answers = Zoo.open(tmp_path / "zoo").teacher("graph").answers(images)
    torch.testing.assert_close(answers, truth(images, Net(seed=3)), rtol=1e-4, atol=1e-5)


def test_a_module_in_the_current_folder_is_found_and_elsewhere_the_model_is_named(tmp_path, monkeypatch):
    (tmp_path / "in_here.py").write_text("from foreign_models import Net\n")
    monkeypatch.chdir(tmp_path)
    add("zoo", "python:in_here:Net", id="mine", class_names=CLASSES, images=IMAGES, trust=True)
    monkeypatch.chdir(tmp_path / "zoo")
    monkeypatch.delitem(sys.modules, "in_here")
    zoo = Zoo.open(tmp_path / "zoo")
    with pytest.raises(NotAtHand, match=r"model mine: python:in_here:Net(.|\n)*module's folder"):
        zoo.teacher("mine")
    with pytest.raises(NotAtHand):  # nothing can be said of it here, so that it is not called broken
        audit(zoo, rng=Rng(0))


def test_a_predictor_of_exported_networks_is_whole_without_its_zoo(tmp_path):
    from dfml.learners import FrozenLearner
    from dfml.learners.predictor_file import load_predictor, save_predictor

    exported(tmp_path / "graph.pt2", Net(seed=3))
    add(tmp_path / "zoo", tmp_path / "graph.pt2", class_names=CLASSES, images=IMAGES, trust=True)
    zoo = Zoo.open(tmp_path / "zoo")
    learner = FrozenLearner([Encoder(zoo.network("graph").backbone, zoo.cards["graph"].input_spec)], head="ridge")
    predictor = learner.adapt(torch.rand(4, 3, 16, 16), torch.tensor([0, 0, 1, 1]))
    save_predictor(predictor, tmp_path / "predictor", ["one", "two"])
    images = torch.rand(3, 3, 20, 20)
    assert torch.equal(
        load_predictor(tmp_path / "predictor").predict(images).probabilities, predictor.probabilities(images)
    )


def test_a_pickled_module_is_run_with_consent_alone(tmp_path):
    torch.save(Net(seed=5), tmp_path / "whole.pth")
    options = {"class_names": CLASSES, "images": IMAGES}
    with pytest.raises(InputError, match="--trust"):
        add(tmp_path / "zoo", tmp_path / "whole.pth", **options)
    assert not (tmp_path / "zoo").exists()
    assert add(tmp_path / "zoo", tmp_path / "whole.pth", trust=True, **options).source == "export"
    images = torch.rand(4, 3, 16, 16)
    answers = Zoo.open(tmp_path / "zoo").teacher("whole").answers(images)
    torch.testing.assert_close(answers, truth(images, Net(seed=5)), rtol=1e-4, atol=1e-5)


def test_a_zoo_from_elsewhere_brings_no_consent(tmp_path, monkeypatch):
    add(tmp_path / "zoo", NET, class_names=CLASSES, images=IMAGES, trust=True)
    monkeypatch.setenv("DFML_CONFIG", str(tmp_path / "somebody else"))
    with pytest.raises(InputError, match=r"runs code .*foreign_models\.Net\(\)(.|\n)*dfml trust"):
        Zoo.open(tmp_path / "zoo").teacher("net")
    with pytest.raises(NotAtHand):  # nor is it called broken for that
        audit(Zoo.open(tmp_path / "zoo"), rng=Rng(0))
    from dfml.cli import main

    assert main(["trust", str(tmp_path / "zoo")]) == 0
    assert Zoo.open(tmp_path / "zoo").teacher("net").answers(torch.rand(2, 3, 16, 16)).shape == (2, 3)


def test_answers_of_other_kinds_are_recognised(tmp_path):
    card = odd(tmp_path, "probabilities", id="p")
    assert (card.answers, card.structure["head"]) == ("probabilities", None)
    images = torch.rand(3, 3, 16, 16)
    wanted = truth(images, Net())
    given = Zoo.open(tmp_path).teacher("p")
    torch.testing.assert_close(given.answers(images, "probabilities"), wanted.softmax(-1), rtol=1e-4, atol=1e-5)
    card = odd(tmp_path, "labels", id="l")
    assert (card.answers, card.capabilities) == ("labels", ("labels",))
    assert torch.equal(Zoo.open(tmp_path).teacher("l").answers(images, "labels"), wanted.argmax(-1))
    card = odd(tmp_path, "frozen", id="f")
    assert "gradients" not in card.capabilities
    assert "black box" in card.findings[0]
    with pytest.raises(InputError, match="differentiable"):
        Zoo.open(tmp_path).teacher("f").forward(images)
    card = odd(tmp_path, "batch", id="b")
    assert card.structure["batch"] == 1
    assert any("beside it" in f for f in card.findings)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("one number", "at least two classes"),
        ("maps", "1536 classes in its answers"),
        ("nan", "NaN"),
        ("random", "differ from run to run"),
        ("dictionary", "gives dict"),
        ("unknown", "failed|KeyError"),
    ],
)
def test_what_is_no_classifier_is_refused_and_nothing_is_written(tmp_path, kind, words):
    with pytest.raises(InputError, match=words):
        odd(tmp_path / "zoo", kind)
    assert not (tmp_path / "zoo").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trust": False}, "--trust"),
        ({"class_names": ("ant", "bee")}, "3 classes in its answers"),
        ({"class_names": None}, "--classes 3"),
        ({"images": {"size": 16}}, "--mean.*--std"),
        ({"images": IMAGES | {"channels": 1}}, r"images of \(1, 16, 16\)"),
        ({"arguments": {"depth": 3}}, "--arguments"),
        ({"id": "../up"}, "file name"),
        ({"weights": "missing.pth"}, "no such file"),
    ],
)
def test_what_is_missing_is_asked_for_by_the_name_of_its_option(tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        add(tmp_path / "zoo", NET, **{"class_names": CLASSES, "images": IMAGES, "trust": True} | changes)
    assert not (tmp_path / "zoo").exists()


def refuse(*_):
    raise InputError("refused", "nothing", "nothing")


def test_an_addition_that_fails_leaves_no_consent_and_no_folder(tmp_path, monkeypatch):
    options = {"class_names": CLASSES, "images": IMAGES, "trust": True}
    torch.save(Net(), tmp_path / "whole.pth")
    for changes in ({"class_names": ("ant", "bee")}, {"images": {}}, {"weights": "missing.pth"}):
        with pytest.raises(InputError):
            add(tmp_path / "new" / "zoo", NET, **options | changes)
    with pytest.raises(InputError):
        add(tmp_path / "new" / "zoo", tmp_path / "whole.pth", **options | {"class_names": ("ant", "bee")})
    assert not consent_file().exists()
    monkeypatch.setattr("dfml.zoo.adding._check_read", refuse)
    with pytest.raises(InputError, match="refused"):
        add(tmp_path / "new" / "zoo", NET, **options)
    assert not consent_file().exists()
    assert not (tmp_path / "new").exists()


def test_consent_that_cannot_be_kept_leaves_no_model(tmp_path, monkeypatch):
    """Else the zoo would hold a model that nobody can load."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DFML_CONFIG", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"trusted\.json: cannot be written"):
        add(tmp_path / "zoo", NET, class_names=CLASSES, images=IMAGES, trust=True)
    assert not (tmp_path / "zoo").exists()


def test_consent_outlives_an_addition_that_succeeds(tmp_path):
    add(tmp_path / "zoo", NET, id="one", class_names=CLASSES, images=IMAGES, trust=True)
    assert "foreign_models.Net()" in consent_file().read_text()
    add(tmp_path / "zoo", NET, id="two", class_names=CLASSES, images=IMAGES)  # agreed to before


@pytest.mark.parametrize("source", ["python:foreign_models:broken", "python:no_such_module:f", "python:json"])
def test_an_import_path_that_gives_no_network_is_refused(tmp_path, source):
    with pytest.raises(InputError, match="module:function"):
        add(tmp_path / "zoo", source, class_names=CLASSES, images=IMAGES, trust=True)


@pytest.mark.parametrize(
    ("source", "module", "extra"),
    [
        ("timm:resnet18", "timm", "vision"),
        ("torchvision:resnet18", "torchvision", "vision"),
        ("transformers:some/name", "huggingface_hub", "vision"),
        ("net.onnx", "onnx", "onnx"),
    ],
)
def test_a_source_whose_library_is_missing_names_the_extra(tmp_path, monkeypatch, source, module, extra):
    for name in {module, *(name for name in sys.modules if name.startswith(f"{module}."))}:
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    if source.endswith(".onnx"):
        (tmp_path / source).write_bytes(b"\x08\x09\x12\x07pytorch")
        source = tmp_path / source
    with pytest.raises(NotAtHand, match=rf"{module} cannot be imported(.|\n)*\.\[{extra}\]"):
        add(tmp_path / "zoo", source, class_names=CLASSES, images=IMAGES)
    assert not (tmp_path / "zoo").exists()


def test_two_models_under_one_id_are_refused_and_the_first_stays(tmp_path):
    add(tmp_path, NET, id="one", class_names=CLASSES, images=IMAGES, trust=True)
    before = content(tmp_path)
    with pytest.raises(InputError, match="already"):
        add(tmp_path, NET, id="one", class_names=CLASSES, images=IMAGES, trust=True)
    assert content(tmp_path) == before
    assert len(Zoo.open(tmp_path)) == 1


def test_a_file_of_another_kind_than_its_name_says_is_refused(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "weights.onnx")
    (tmp_path / "notes.pt2").write_text("hello")
    (tmp_path / "folder").mkdir()
    for name, words in (("weights.onnx", "holds pickle"), ("notes.pt2", "no model"), ("folder", "config.json")):
        with pytest.raises(InputError, match=words):
            add(tmp_path / "zoo", tmp_path / name, class_names=3, images=IMAGES)
    (tmp_path / "folder" / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(InputError, match="image processor"):
        add(tmp_path / "zoo", tmp_path / "folder")


def test_classes_are_shared_where_the_zoo_says_so(tmp_path):
    options = {"images": IMAGES, "trust": True}
    add(tmp_path, NET, id="one", class_names=CLASSES, shared_classes=True, **options)
    add(tmp_path, NET, id="two", class_names=("cow", "dog", "dog"), arguments={"seed": 1}, **options)
    zoo = Zoo.open(tmp_path)
    assert zoo.cards["two"].class_ids == ("cow", "dog", "dog#2")
    assert len(zoo.class_ids) == 5


def test_models_of_other_zoos_come_by_their_card(tmp_path):
    glyphs = Zoo.open("glyphs")
    card = add(tmp_path / "zoo", glyphs.path / f"{glyphs.ids[0]}.json", id="mine")
    zoo, images = Zoo.open(tmp_path / "zoo"), torch.rand(3, *glyphs.canvas.shape)
    assert card.class_ids == glyphs.cards[glyphs.ids[0]].class_ids
    assert torch.equal(zoo.teacher("mine").answers(images), glyphs.teacher(glyphs.ids[0]).answers(images))


def test_images_need_be_no_squares(tmp_path):
    images = {"size": 8, "width": 24, "mean": (0.5,), "std": (0.25,)}
    add(tmp_path, NET, id="wide", class_names=CLASSES, images=images, trust=True)
    given = torch.rand(2, 3, 24, 24)
    answers = Zoo.open(tmp_path).teacher("wide").answers(given)
    torch.testing.assert_close(answers, truth(given[:, :, 8:16], Net()), rtol=1e-4, atol=1e-5)


def test_what_a_killed_command_left_is_taken_over_and_other_files_are_not(tmp_path):
    source = Zoo.open("glyphs").path / f"{Zoo.open('glyphs').ids[0]}.json"
    made = add(tmp_path / "whole", source)
    for name, content in (("killed", None), ("other", b"another model")):
        (tmp_path / name).mkdir()
        weights = (tmp_path / "whole" / f"{made.id}.safetensors").read_bytes()
        (tmp_path / name / f"{made.id}.safetensors").write_bytes(content or weights)
    assert add(tmp_path / "killed", source) == made
    with pytest.raises(InputError, match=r"conv4-00.safetensors is there already, of no model in the zoo"):
        add(tmp_path / "other", source)
    assert (tmp_path / "other" / f"{made.id}.safetensors").read_bytes() == b"another model"
