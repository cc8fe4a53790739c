"""A card and an index that somebody changed are noticed; changes on purpose go through one door."""

import json

import pytest
import torch

from dfml.cli import main
from dfml.errors import InputError
from dfml.zoo import ModelCard, Zoo, write_index


def tamper(path, *keys, value):
    values = place = json.loads(path.read_text())
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("keys", "value"), [(("input_spec", "mean"), [0.1, 0.2, 0.3]), (("licence",), "MIT"), (("class_names", 0), "lynx")]
)
def test_a_changed_card_is_refused_until_the_folder_is_sealed_again(folder, keys, value):
    zoo = Zoo.open(folder)
    tamper(folder / "one.json", *keys, value=value)
    with pytest.raises(InputError, match=r"one\.json: changed since dfml wrote it") as error:
        zoo.teacher("one")
    assert "dfml zoo edit" in error.value.do
    zoo.teacher("two")
    (folder / "two.json").unlink()
    write_index(folder, name="toys", shared_classes=True)
    assert Zoo.open(folder).teacher("one")


def test_a_card_whose_seal_was_taken_away_is_noticed_by_the_index(folder):
    values = json.loads((folder / "one.json").read_text())
    del values["seal"]
    (folder / "one.json").write_text(json.dumps(values))
    assert Zoo.open(folder).teacher("one"), "nothing else has changed"
    values["input_spec"]["mean"] = [0.1, 0.2, 0.3]
    (folder / "one.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"one\.json: not the card that is sealed in zoo\.json"):
        Zoo.open(folder).teacher("one")


@pytest.mark.parametrize("keys", [("name",), ("models", 0, "accuracy"), ("recipe",), ("classes", "toys/ant")])
def test_a_changed_index_is_refused(folder, keys):
    tamper(folder / "zoo.json", *keys, value={})
    with pytest.raises(InputError, match=r"zoo\.json: changed since dfml wrote it"):
        Zoo.open(folder)


def test_cards_written_by_hand_are_read_and_sealed_by_write_index(folder):
    for path in folder.glob("*.json"):
        values = json.loads(path.read_text())
        del values["seal"]
        for model in values.get("models", []):
            del model["card"]
        path.write_text(json.dumps(values))
    assert Zoo.open(folder).teacher("one")
    write_index(folder, name="toys", shared_classes=True)
    assert all("seal" in json.loads(path.read_text()) for path in folder.glob("*.json"))


def test_the_embedded_zoo_is_sealed():
    zoo = Zoo.open("glyphs")
    assert all(entry.card for entry in zoo.index.models)
    assert all("seal" in json.loads(path.read_text()) for path in zoo.path.glob("*.json"))


def test_a_card_is_changed_on_purpose(folder, capsys):
    images = torch.rand(4, 3, 16, 16)
    before, others = Zoo.open(folder).teacher("one").logits(images), (folder / "two.json").read_bytes()
    changes = ["--set", "input_spec.mean=0.1,0.2,0.3", "--set", "licence=CC BY 4.0", "--set", "class_names=elk,ant,cow"]
    changes += ["--set", "class_ids=toys/elk,toys/ant,toys/cow", "--set", "provenance.corrected=true"]
    assert main(["zoo", "edit", str(folder), "one", *changes]) == 0
    assert "changed: one" in capsys.readouterr().out
    zoo = Zoo.open(folder)
    card = zoo.cards["one"]
    assert card.input_spec.mean == (0.1, 0.2, 0.3)
    assert (card.licence, card.class_names, card.provenance) == (
        "CC BY 4.0",
        ("elk", "ant", "cow"),
        {"corrected": True},
    )
    assert zoo.class_names["toys/elk"] == "elk"
    assert zoo.index.recipe == {"seed": 0}
    assert not torch.equal(zoo.teacher("one").logits(images), before)
    assert (folder / "two.json").read_bytes() == others
    assert ModelCard.read(folder / "one.json") == card
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(
    ("model", "change", "words"),
    [
        ("one", "licens=MIT", "no field to change"),
        ("one", "sha256=0", "no field to change"),
        ("one", "input_spec.hue=1", "no field to change"),
        ("one", "licence", "KEY=VALUE"),
        ("three", "licence=MIT", "three"),
        ("one", "class_names=a,b", "2 class names"),
        ("one", "input_spec.size=32", "32 pixels"),
        ("one", "input_spec.mean=120,110,100", "0 to 1"),
        ("one", "class_names=panda,ant,cow", "one name for one class id"),
    ],
)
def test_impossible_changes_leave_everything_as_it_was(folder, capsys, model, change, words):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert main(["zoo", "edit", str(folder), model, "--set", change]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "to do:" in error
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_folder_of_ones_own_comes_before_the_embedded_zoo(folder, monkeypatch):
    folder.rename(folder.with_name("glyphs"))
    monkeypatch.chdir(folder.parent)
    assert Zoo.open("glyphs").name == "toys"
    monkeypatch.chdir("/")
    assert Zoo.open("glyphs").name == "glyphs"
