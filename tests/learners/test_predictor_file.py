import hashlib
import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from dfml.errors import InputError
from dfml.files import sealed
from dfml.learners.base import Predictor
from dfml.learners.frozen import FrozenLearner
from dfml.learners.predictor_file import load_predictor, save_predictor
from dfml.learners.task_classifier import TaskClassifier
from dfml.nn import AnsweringBackbone, record_statistics

CARD, WEIGHTS = "predictor.json", "predictor.safetensors"
NAMES = ("cat", "dog", "Ärger")


@pytest.fixture
def saved(make_encoder, support, tmp_path):
    save_predictor(FrozenLearner(make_encoder()).adapt(*support), tmp_path / "p", NAMES)
    return tmp_path / "p"


@pytest.mark.parametrize("norm", ["running", "support"])
@pytest.mark.parametrize("architectures", [["conv4"], ["resnet10"], ["resnet12"], ["conv4", "resnet18", "conv4"]])
@pytest.mark.parametrize("normalise", [True, False])
def test_a_loaded_predictor_gives_the_same_bits(
    make_encoder, support, queries, tmp_path, norm, architectures, normalise
):
    encoders = [make_encoder(i, a) for i, a in enumerate(architectures)]
    predictor = FrozenLearner(encoders, normalise=normalise).adapt(*support, norm=norm)
    save_predictor(predictor, tmp_path / "new" / "p", NAMES)
    loaded = load_predictor(tmp_path / "new" / "p")
    assert loaded.class_names == NAMES
    assert loaded.spec == encoders[0].spec
    assert torch.equal(loaded.predictor(queries), predictor(queries))
    assert sorted(p.name for p in (tmp_path / "new" / "p").iterdir()) == [CARD, WEIGHTS]


@pytest.mark.parametrize("hidden", [0, 12])
def test_a_network_that_answers_for_many_travels(make_encoder, support, queries, tmp_path, hidden):
    encoder = make_encoder()
    encoder.backbone = AnsweringBackbone(encoder.backbone, ([4, 0, 1], [1, 2]), hidden=hidden).eval()
    predictor = FrozenLearner(encoder).adapt(*support)
    save_predictor(predictor, tmp_path / "p", NAMES)
    assert torch.equal(load_predictor(tmp_path / "p").predictor(queries), predictor(queries))


@pytest.mark.parametrize("norm", ["running", "support"])
def test_an_answer_depends_on_its_image_alone(make_encoder, support, queries, norm):
    classifier = TaskClassifier(FrozenLearner(make_encoder()).adapt(*support, norm=norm), NAMES)
    together = classifier.predict(queries)
    again = classifier.predict(queries)
    assert torch.equal(again.probabilities, together.probabilities)
    assert again.labels == together.labels
    for i, image in enumerate(queries):
        alone = classifier.predict(image[None])
        odd_company = classifier.predict(torch.stack([torch.zeros_like(image), image, torch.ones_like(image)]))
        assert torch.allclose(alone.probabilities[0], together.probabilities[i], atol=1e-6)
        assert torch.allclose(odd_company.probabilities[1], together.probabilities[i], atol=1e-6)
        assert alone.labels[0] == together.labels[i] == NAMES[int(together.probabilities[i].argmax())]
    assert torch.allclose(together.probabilities.sum(1), torch.ones(len(queries)))


def test_more_images_than_a_batch(saved, queries):
    classifier = load_predictor(saved)
    many = classifier.predict(queries.repeat(30, 1, 1, 1))
    assert len(many.labels) == 180
    assert many.labels == classifier.predict(queries).labels * 30


def test_files_of_any_size(saved, tmp_path):
    paths = []
    for i, size in enumerate([(16, 16), (50, 40)]):
        paths.append(tmp_path / f"{i}.png")
        Image.new("RGB", size, (200, 30 * i, 90)).save(paths[-1])
    prediction = load_predictor(saved).predict_files(paths)
    assert len(prediction.labels) == 2
    assert prediction.probabilities.shape == (2, 3)
    with pytest.raises(InputError, match="no images"):
        load_predictor(saved).predict_files([])
    paths[0].write_text("no image")
    with pytest.raises(InputError, match=r"0\.png"):
        load_predictor(saved).predict_files(paths)


def test_a_transductive_predictor_is_never_saved(make_encoder, support, tmp_path):
    predictor = FrozenLearner(make_encoder()).adapt(*support, norm="query_batch")
    with pytest.raises(InputError, match="query_batch"):
        save_predictor(predictor, tmp_path / "p", NAMES)
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("names", [("cat", "dog"), ("cat", "dog", "dog")])
def test_names_must_fit_the_outputs(make_encoder, support, tmp_path, names):
    with pytest.raises(InputError, match="3 outputs"):
        save_predictor(FrozenLearner(make_encoder()).adapt(*support), tmp_path / "p", names)


def test_networks_of_two_input_sizes_fit_the_images_themselves(make_encoder):
    encoders = [make_encoder(0), make_encoder(1, size=32)]
    width = sum(e.feature_size for e in encoders)
    predictor = Predictor(encoders, torch.zeros(3, width), torch.zeros(3))
    classifier = TaskClassifier(predictor, NAMES)
    assert classifier.spec.size == 32
    assert classifier.predict(torch.rand(2, 3, 20, 24)).probabilities.shape == (2, 3)


def test_a_folder_that_cannot_be_written(make_encoder, support, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        save_predictor(FrozenLearner(make_encoder()).adapt(*support), tmp_path / "file" / "p", NAMES)


def truncate(folder):
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-10])


def flip(path):
    """One byte of what the images are normalised with."""
    path.write_text(path.read_text().replace("0.5", "4.5", 1).replace("0.25", "0.75", 1))


def edit(**change):
    def apply(folder):
        card = json.loads((folder / CARD).read_text()) | change
        (folder / CARD).write_text(json.dumps(sealed(card)))

    return apply


def look_at(size):
    """Images of another size than the network was built for."""

    def apply(folder):
        encoders = json.loads((folder / CARD).read_text())["encoders"]
        encoders[0]["input_spec"]["size"] = size
        edit(encoders=encoders)(folder)

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (look_at(5), "not a predictor.*takes no images of"),
        (look_at(64), "not a predictor"),
        (truncate, "truncated or changed"),
        (lambda folder: (folder / WEIGHTS).unlink(), WEIGHTS),
        (lambda folder: (folder / CARD).write_text("{"), "JSONDecodeError"),
        (lambda folder: (folder / CARD).write_text("[]"), "not a predictor"),
        (edit(schema=1), "schema 1, not 3"),
        (edit(class_names=["cat"]), "3 outputs"),
        (lambda folder: flip(folder / CARD), "predictor.json: changed since it was written"),
        (edit(encoders=[]), "on 0 networks"),
    ],
)
def test_damaged_predictors_are_explained(saved, damage, message):
    damage(saved)
    with pytest.raises(InputError, match=message):
        load_predictor(saved)


def test_weights_that_do_not_match_the_description(saved):
    tensors = load_file(saved / WEIGHTS)
    key = "encoders.0.backbone.blocks.0.weight"
    for change in ({key: tensors[key][:4]}, {"head.weight": tensors["head.weight"][:, :3]}):
        save_file({k: v.clone() for k, v in (tensors | change).items()}, saved / WEIGHTS)
        edit(sha256=hashlib.sha256((saved / WEIGHTS).read_bytes()).hexdigest())(saved)
        with pytest.raises(InputError, match="not a predictor"):
            load_predictor(saved)


def old_predictor(folder, encoder, head, norm, statistics):
    """As dfml 0.3 wrote it: schema 2, the support's statistics beside the networks."""
    tensors = {f"encoders.0.{k}": v for k, v in encoder.state_dict().items()} | head
    for layer, (mean, variance) in statistics.items():
        tensors |= {f"statistics.0.{layer}.mean": mean, f"statistics.0.{layer}.variance": variance}
    folder.mkdir()
    save_file({k: v.clone() for k, v in tensors.items()}, folder / WEIGHTS)
    described = {"networks": [{"architecture": "conv4", "width": 8}], "input_spec": encoder.spec.to_dict()}
    card = {"schema": 2, "class_names": NAMES, "norm": norm, "normalise": True, "encoders": [described]}
    card["sha256"] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    (folder / CARD).write_text(json.dumps(card))


@pytest.mark.parametrize("norm", ["running", "support"])
def test_predictors_of_schema_2_are_read(make_encoder, support, queries, tmp_path, norm):
    encoder = make_encoder()
    predictor = FrozenLearner(encoder).adapt(*support, norm=norm)
    head = {"head.weight": predictor.weight, "head.bias": predictor.bias}
    statistics = {}
    if norm == "support":
        with torch.no_grad(), record_statistics(encoder) as statistics:
            encoder(support[0])
    old_predictor(tmp_path / "old", encoder, head, norm, statistics)
    assert torch.equal(load_predictor(tmp_path / "old").predictor(queries), predictor(queries))


def test_none_of_these_and_what_it_was_made_from_travel(make_encoder, support, queries, tmp_path):
    predictor = FrozenLearner(make_encoder()).adapt(*support)
    highest = predictor(queries).max(-1).values
    made = TaskClassifier(predictor, NAMES, floor=float(highest.median()), about={"shots": [2, 2, 3]})
    save_predictor(made, tmp_path / "p")
    loaded = load_predictor(tmp_path / "p")
    assert (loaded.floor, loaded.shots, loaded.about) == (made.floor, (2, 2, 3), made.about)
    said = loaded.predict(queries)
    assert [label == "none of these" for label in said.labels] == (highest < made.floor).tolist()
    assert said.labels.count("none of these") == 2
    assert json.loads((tmp_path / "p" / CARD).read_text())["schema"] == 4, "unread by what would take it for another"
    with pytest.raises(InputError, match="none of these"):
        TaskClassifier(predictor, ["none of these", "b", "c"], floor=0.0)


def test_an_answer_that_is_no_number_costs_that_image_alone(saved, tmp_path, monkeypatch):
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        Image.new("L", (16, 16), 100 * number).save(path)
    classifier = load_predictor(saved)
    whole = classifier._said

    def broken(images):
        said = whole(images)
        said.probabilities[1] = float("nan")
        return said

    monkeypatch.setattr(classifier, "_said", broken)
    answers = list(classifier.label_files(paths))
    assert [answer.error is None for answer in answers] == [True, False, True]
    assert "1.png: answers that are NaN or infinite" in str(answers[1].error)
