import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dfml.errors import InputError
from dfml.files import sealed
from dfml.nn import InputSpec
from dfml.zoo import ModelCard, Zoo, store, write_index
from dfml.zoo.edit import edit_card
from dfml.zoo.files import check_kinds, read_network
from tiny_zoo import SPEC, card, network, write_tiny_zoo


def refused(action, *words: str) -> InputError:
    """The error of ``action``; its message has every one of these words and says what to do."""
    with pytest.raises(InputError) as caught:
        action()
    for word in words:
        assert word in str(caught.value)
    assert caught.value.given
    assert caught.value.wanted
    assert caught.value.do
    return caught.value


def edit(path, **changes):
    path.write_text(json.dumps(sealed(json.loads(path.read_text()) | changes)))


def test_a_zoo_knows_its_models_and_classes(folder):
    zoo = Zoo.open(folder)
    assert (zoo.name, zoo.path, zoo.ids, len(zoo)) == ("toys", folder, ["one", "two"], 2)
    assert zoo.class_ids == ("toys/ant", "toys/bear", "toys/cow", "toys/dog", "toys/eel")
    assert zoo.class_names["toys/eel"] == "eel"
    assert zoo.rows("one").tolist() == [1, 0, 2]
    assert zoo.rows("two").tolist() == [3, 4, 1]
    assert zoo.canvas == SPEC
    assert zoo.cards["two"].class_names == ("dog", "eel", "bear")
    assert list(zoo.cards) == zoo.ids
    assert pickle.loads(pickle.dumps(zoo)).hash == zoo.hash


def test_a_teacher_is_the_written_network_rounded_to_float16_and_frozen(folder):
    zoo = Zoo.open(folder)
    teacher, kept = zoo.teacher("one"), zoo.network("one")
    written = network(1)
    images = torch.rand(4, 3, 16, 16)
    torch.testing.assert_close(teacher.forward(images).logits, written(SPEC.normalise(images)), atol=1e-2, rtol=1e-2)
    assert not kept.training
    for name, value in kept.state_dict().items():
        original = written.state_dict()[name]
        assert value.dtype == original.dtype
        torch.testing.assert_close(value, original.half().to(value.dtype) if value.is_floating_point() else original)
    assert not any(p.requires_grad for p in kept.parameters())


def test_full_precision_and_huge_variances_survive(tmp_path):
    exact = network(3)
    exact.backbone.blocks[1].running_var.fill_(1e6)
    half = Zoo.write_model(tmp_path, card("half", ("a", "b", "c")), exact)
    full = Zoo.write_model(tmp_path, card("full", ("a", "b", "c")), exact, half=False)
    assert read_network(tmp_path, half).backbone.blocks[1].running_var.tolist() == [1e6] * 4
    for name, value in read_network(tmp_path, full).state_dict().items():
        torch.testing.assert_close(value, exact.state_dict()[name], atol=0, rtol=0)


def test_a_teacher_answers_where_its_weights_are(folder):
    zoo = Zoo.open(folder)
    teacher = zoo.teacher("one")
    zoo.network("one").to("meta")
    images = torch.rand(2, 3, SPEC.size, SPEC.size, device="meta")
    for given in (teacher.forward(images).logits, teacher.answers(images), teacher.features(images)):
        assert given.device.type == "meta"


def test_opening_and_reading_teachers_leaves_the_global_generator_alone(folder):
    before = torch.get_rng_state()
    Zoo.open(folder).teacher("one")
    assert torch.equal(torch.get_rng_state(), before)


def test_cards_and_weights_are_read_only_when_asked_for(folder):
    for path in folder.glob("one.*"):
        path.unlink()
    zoo = Zoo.open(folder)
    assert zoo.hash
    assert zoo.rows("one").tolist() == [1, 0, 2]
    zoo.teacher("two")
    refused(lambda: zoo.cards["one"], "one.json")


def test_ten_thousand_models_open_quickly(folder):
    index = json.loads((folder / "zoo.json").read_text())
    index["models"] = [index["models"][0] | {"id": f"m{i}"} for i in range(10_000)]
    (folder / "zoo.json").write_text(json.dumps(sealed(index)))
    zoo = Zoo.open(folder)
    assert len(zoo) == 10_000
    assert zoo.class_ids == ("toys/ant", "toys/bear", "toys/cow")


def test_the_cache_is_bounded(folder, monkeypatch):
    zoo = Zoo.open(folder)
    assert zoo.teacher("one") is zoo.teacher("one")
    monkeypatch.setattr(store, "CACHE_BYTES", 1)
    first = zoo.teacher("one")
    zoo.teacher("two")
    assert zoo.teacher("one") is not first


def test_the_hash_is_of_content(folder, tmp_path):
    zoo = Zoo.open(folder)
    copy = shutil.copytree(folder, tmp_path / "copy")
    write_index(copy, name="another name", shared_classes=True)
    assert Zoo.open(copy).hash == zoo.hash
    assert Zoo.open(copy).recipe_hash != zoo.recipe_hash
    Zoo.write_model(copy, card("two", ("dog", "eel", "bear")), network(7))
    write_index(copy, name="toys", shared_classes=True)
    assert Zoo.open(copy).hash != zoo.hash


def test_no_index(tmp_path):
    refused(lambda: Zoo.open(tmp_path / "nowhere"), "nowhere", "no such folder", "dfml zoo build")
    refused(lambda: Zoo.open(tmp_path), "no zoo.json in it", "dfml zoo add")
    (tmp_path / "file").touch()
    refused(lambda: Zoo.open(tmp_path / "file"), "file: a file", "dfml zoo build")


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"schema": 1}', '{"schema": 99, "models": []}'])
def test_a_garbled_index(folder, text):
    (folder / "zoo.json").write_text(text)
    refused(lambda: Zoo.open(folder), "zoo.json", "not a zoo index")


def test_an_index_whose_ids_leave_the_folder(folder):
    index = json.loads((folder / "zoo.json").read_text())
    index["models"][0]["id"] = "../one"
    (folder / "zoo.json").write_text(json.dumps(sealed(index)))
    refused(lambda: Zoo.open(folder), "file names")


def test_an_empty_zoo(folder):
    edit(folder / "zoo.json", models=[])
    refused(lambda: Zoo.open(folder), "without models", "continues")


def test_classes_that_meet_without_the_statement(folder):
    edit(folder / "zoo.json", shared_classes=False)
    refused(lambda: Zoo.open(folder), "shared_classes is false")
    refused(lambda: write_index(folder, name="toys", shared_classes=False), "shared_classes")


def test_one_class_id_with_two_names(folder):
    edit(folder / "one.json", class_names=["panda", "ant", "cow"])
    refused(lambda: write_index(folder, name="toys", shared_classes=True), "toys/bear", "one name")


def test_unknown_model(folder):
    refused(lambda: Zoo.open(folder).teacher("three"), "three", "dfml zoo list")


def test_a_missing_weight_file(folder):
    (folder / "one.safetensors").unlink()
    refused(lambda: Zoo.open(folder).teacher("one"), "one.safetensors", "cannot be read", "zoo build")


@pytest.mark.parametrize("length", [0, 5, 200, -10])
def test_a_truncated_weight_file(folder, length):
    path = folder / "one.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    refused(lambda: Zoo.open(folder).teacher("one"), "one.safetensors", "truncated", "zoo build")


def test_a_sha256_that_does_not_match(folder):
    shutil.copy(folder / "two.safetensors", folder / "one.safetensors")
    refused(lambda: Zoo.open(folder).teacher("one"), "one.safetensors", "sha256")


def test_a_card_that_differs_from_the_index(folder):
    edit(folder / "one.json", sha256="0" * 64)
    refused(lambda: Zoo.open(folder).teacher("one"), "one.json", "zoo.json")


def test_a_garbled_card(folder):
    (folder / "one.json").write_text('{"schema": 1')
    refused(lambda: Zoo.open(folder).teacher("one"), "one.json", "not a model card")


def test_class_count_differs_from_the_head(folder):
    edit(folder / "one.json", class_names=["bear", "ant"], class_ids=["toys/bear", "toys/ant"])
    write_index(folder, name="toys", shared_classes=True)
    refused(lambda: Zoo.open(folder).teacher("one"), "2 class names", "head of 3 rows")


def test_an_image_size_that_the_network_cannot_take(folder):
    edit(folder / "one.json", input_spec=replace(SPEC, size=8).to_dict())
    write_index(folder, name="toys", shared_classes=True)
    refused(lambda: Zoo.open(folder).teacher("one"), "card one", "image size 8", "16 pixels")


def test_another_image_size_than_the_weights_have(folder):
    edit(folder / "one.json", input_spec=replace(SPEC, size=32).to_dict())
    write_index(folder, name="toys", shared_classes=True)
    refused(lambda: Zoo.open(folder).teacher("one"), "32 pixels", "16 features", "takes 4")


@pytest.mark.parametrize(
    "changes", [{"options": {"width": 8}}, {"source": "dfml:resnet10"}, {"source": "dfml:vgg"}, {"source": "zoo:x"}]
)
def test_weights_of_another_network(folder, changes):
    edit(folder / "one.json", **changes)
    write_index(folder, name="toys", shared_classes=True)
    refused(lambda: Zoo.open(folder).teacher("one"), "card")


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    refused(lambda: write_tiny_zoo(tmp_path / "file" / "zoo"), "cannot be written")


def test_nothing_temporary_is_left(folder):
    assert sorted(p.name for p in folder.iterdir()) == [
        "one.json",
        "one.safetensors",
        "two.json",
        "two.safetensors",
        "zoo.json",
    ]
    assert ModelCard.read(folder / "one.json") == Zoo.open(folder).cards["one"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("head.weight", float("nan"), "NaN or infinity"),
        ("head.bias", float("inf"), "NaN or infinity"),
        ("backbone.blocks.1.running_var", -1.0, "a negative variance"),
    ],
)
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path, name, value, words):
    broken = network(1)
    broken.state_dict()[name].flatten()[0] = value
    Zoo.write_model(tmp_path, card("one", ("ant", "bear", "cow")), broken)
    write_index(tmp_path, name="toys", shared_classes=True)
    refused(lambda: Zoo.open(tmp_path).teacher("one"), "one.safetensors", name, words)


@pytest.mark.parametrize("statistics", [{"mean": (127.5,) * 3}, {"std": (63.0,) * 3}, {"mean": (float("nan"),) * 3}])
def test_means_and_stds_of_images_in_0_to_255_are_refused(statistics):
    refused(lambda: InputSpec(**statistics), "0 to 1", "divide them by 255")


def test_the_ways_of_a_deliberate_change(folder):
    zoo = Zoo.open(folder)
    edit_card(folder, "one", {"input_spec.mean": [0.4, 0.4, 0.4], "licence": "MIT"})
    changed = Zoo.open(folder)
    assert changed.teacher("one").card.input_spec.mean == (0.4, 0.4, 0.4)
    assert changed.cards["one"].licence == "MIT"
    assert changed.hash == zoo.hash, "the weights are the same"
    assert changed.cards_hash != zoo.cards_hash
    refused(lambda: edit_card(folder, "one", {"sha256": "0"}), "'sha256' of a card")
    refused(lambda: edit_card(folder, "one", {"input_spec.mean": [128.0] * 3}), "divide them by 255")
    refused(lambda: edit_card(folder, "none", {"licence": "MIT"}), "model 'none'")
    assert Zoo.open(folder).cards_hash == changed.cards_hash


def test_a_list_may_be_given_as_text_and_open_fields_take_new_keys(folder):
    changes = {"input_spec.mean": "0.1,0.2,0.3", "class_names": "elk, ant, cow", "provenance.corrected": True}
    edit_card(folder, "one", changes | {"class_ids": "toys/elk,toys/ant,toys/cow"})
    card = Zoo.open(folder).cards["one"]
    assert card.input_spec.mean == (0.1, 0.2, 0.3)
    assert card.class_names == ("elk", "ant", "cow")
    assert card.provenance == {"corrected": True}
    assert Zoo.open(folder).class_names["toys/elk"] == "elk"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input_spec.size": 32}, "32 pixels"),
        ({"input_spec.mean": "120.0,110.0,100.0"}, "0 to 1"),
        ({"input_spec.hue": 1}, "'input_spec.hue' of a card"),
        ({"licens": "MIT"}, "'licens' of a card"),
        ({"class_names": "a,b"}, "2 class names"),
        ({"class_names": "elk,yak", "class_ids": "toys/elk,toys/yak"}, "head of 3 rows"),
        ({"class_names": "panda,ant,cow"}, "one name for one class id"),
    ],
)
def test_a_change_that_does_not_fit_leaves_the_zoo_as_it_was(folder, changes, words):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    refused(lambda: edit_card(folder, "one", changes), words)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


@pytest.mark.parametrize("keep_seal", [True, False])
def test_one_byte_of_a_card_is_noticed_even_where_its_seal_is_taken_off(folder, keep_seal):
    path = folder / "one.json"
    values = json.loads(path.read_text())
    values["input_spec"]["mean"][0] += 0.1
    path.write_text(json.dumps({k: v for k, v in values.items() if keep_seal or k != "seal"}))
    words = "its seal does not fit" if keep_seal else "differs from zoo.json"
    refused(lambda: Zoo.open(folder).teacher("one"), "one.json", words, "dfml zoo edit")


def test_one_byte_of_an_index_is_noticed(folder):
    path = folder / "zoo.json"
    path.write_text(path.read_text().replace('"shared_classes": true', '"shared_classes": false'))
    refused(lambda: Zoo.open(folder), "zoo.json", "its seal does not fit")


def test_files_of_an_older_dfml_carry_no_seals_and_are_read(folder):
    for path in folder.glob("*.json"):
        values = json.loads(path.read_text())
        values.pop("seal")
        values["schema"] = 1
        if "source" in values:
            values |= {"architecture": values.pop("source").removeprefix("dfml:")} | values.pop("options")
        for model in values.get("models", []):
            del model["card_hash"], model["input_spec"]
            model["architecture"] = model.pop("source").removeprefix("dfml:")
        path.write_text(json.dumps(values))
    zoo = Zoo.open(folder)
    card = zoo.teacher("one").card
    assert (card.id, card.source, card.options) == ("one", "dfml:conv4", {"width": 4})
    assert zoo.canvas == SPEC
    assert zoo.cards_hash is None


CHANGES = [
    ({"input_spec": SPEC.to_dict() | {"size": 16.0}}, "size is 16.0"),
    ({"input_spec": SPEC.to_dict() | {"size": 32.5}}, "size is 32.5"),
    ({"input_spec": SPEC.to_dict() | {"size": "32"}}, "size is '32'"),
    ({"input_spec": SPEC.to_dict() | {"size": None}}, "size is None"),
    ({"input_spec": SPEC.to_dict() | {"size": True}}, "size is True"),
    ({"input_spec": SPEC.to_dict() | {"size": 10**9}}, "1 to 4096 pixels"),
    ({"input_spec": SPEC.to_dict() | {"width": 0}}, "1 to 4096 pixels"),
    ({"input_spec": SPEC.to_dict() | {"width": -1}}, "1 to 4096 pixels"),
    ({"input_spec": SPEC.to_dict() | {"channels": 0, "mean": [], "std": []}}, "0 channels"),
    ({"input_spec": SPEC.to_dict() | {"mean": ["a", "b", "c"]}}, "mean is ['a', 'b', 'c']"),
    ({"input_spec": [1]}, "input_spec is [1]"),
    ({"source": ["dfml:conv4"]}, "source is"),
    ({"accuracy": "good"}, "accuracy is 'good'"),
    ({"accuracy": {"mean": "good"}}, "accuracy is"),
    ({"class_names": "abc"}, "class_names is 'abc'"),
    ({"options": [4]}, "options is [4]"),
]


@pytest.mark.parametrize(("changes", "words"), CHANGES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_value_of_another_kind_in_a_card_is_named(folder, changes, words):
    edit(folder / "one.json", **changes)
    refused(lambda: ModelCard.read(folder / "one.json"), "one.json", words)


def test_a_card_with_a_number_that_is_none_is_named(folder):
    path = folder / "one.json"
    path.write_text(path.read_text().replace('"ci95": 9.0', '"ci95": NaN'))
    refused(lambda: ModelCard.read(path), "one.json: NaN or infinity in it")


@pytest.mark.parametrize("width", [0, -1, 10**9, True, "4", 4.0])
def test_a_width_that_no_network_has_is_named(folder, width):
    edit(folder / "one.json", options={"width": width})
    write_index(folder, name="toys", shared_classes=True)
    refused(lambda: Zoo.open(folder).teacher("one"), "card one", f"width {width!r}")


@pytest.mark.parametrize("changes", [{"shared_classes": "no"}, {"name": 1}, {"classes": []}, {"recipe": None}])
def test_a_value_of_another_kind_in_an_index_is_named(folder, changes):
    edit(folder / "zoo.json", **changes)
    refused(lambda: Zoo.open(folder), "zoo.json", f"{next(iter(changes))} is")


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_weights_of_a_type_that_would_be_turned_into_another_are_refused(dtype):
    wanted = network(1).state_dict()
    state = wanted | {"head.weight": wanted["head.weight"].to(dtype)}
    refused(lambda: check_kinds(Path("there"), state, wanted), "there: head.weight", str(dtype)[6:], "save the weights")
    check_kinds(Path("there"), {name: v.half() if v.is_floating_point() else v for name, v in wanted.items()}, wanted)


def test_a_network_of_zeros_is_warned_of(tmp_path):
    empty = network(1)
    torch.nn.init.zeros_(empty.head.weight)
    Zoo.write_model(tmp_path, card("one", ("ant", "bear", "cow")), empty)
    write_index(tmp_path, name="toys", shared_classes=True)
    with pytest.warns(UserWarning, match=r"one\.safetensors: its weights are all zero"):
        Zoo.open(tmp_path).teacher("one")


@pytest.mark.parametrize("name", ["one.json", "one.safetensors", "zoo.json"])
@pytest.mark.parametrize("what", ["pipe", "device"])
def test_a_file_that_is_none_is_not_waited_for(folder, name, what):
    (folder / name).unlink()
    if what == "pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to("/dev/zero")
    refused(lambda: Zoo.open(folder).teacher("one"), name if what == "device" or name != "zoo.json" else "zoo.json")


def test_another_size_that_the_weights_take_too_is_told(folder):
    with pytest.warns(UserWarning, match="does not say that it was trained on them"):
        edit_card(folder, "one", {"input_spec.size": 17})
