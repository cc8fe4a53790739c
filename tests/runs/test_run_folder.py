import json

import pytest
from fakes import FakeZoo, fake_config

from dfml.errors import InputError
from dfml.files import sealed, to_json, write_atomic
from dfml.recipes.resolving import resolve
from dfml.recipes.upgrade import upgraded
from dfml.runs.run_folder import RunFolder


def create(path, **run):
    return RunFolder.create(path, fake_config(**({"steps": 3} | run)), FakeZoo())


def test_what_it_holds(tmp_path):
    folder = create(tmp_path / "deep" / "run")
    about = json.loads((folder.path / "config.json").read_text())
    assert about["config"]["run"]["steps"] == 3
    assert about["recipe_hash"] == folder.config.hash
    assert about["zoo"]["hash"] == "sha256:fake"
    versions = json.loads((folder.path / "versions.json").read_text())
    assert {"dfml", "torch", "python", "platform", "commit", "threads"} <= set(versions)
    folder.log({"step": 1, "loss": 0.5})
    assert folder.metrics() == [{"schema": 1, "step": 1, "loss": 0.5}]


def test_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written.*\n.*\n.*change --out"):
        create(tmp_path / "file" / "run")


def test_taken_places(tmp_path):
    create(tmp_path / "run")
    with pytest.raises(InputError, match="holds a run already"):
        create(tmp_path / "run")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_text("")
    with pytest.raises(InputError, match="not empty, and not a run folder"):
        create(tmp_path / "photos")


def test_another_configuration_or_zoo(tmp_path):
    create(tmp_path / "run")
    other = FakeZoo()
    other.hash = "sha256:other"
    with pytest.raises(InputError) as error:
        RunFolder.reopen(tmp_path / "run", fake_config(steps=9, seed=1), other)
    assert "run.seed: 0 there, 1 here" in str(error.value)
    assert "sha256:other here" in str(error.value)
    assert "run.steps" not in str(error.value)
    assert RunFolder.reopen(tmp_path / "run", fake_config(steps=9), FakeZoo()).config.run.steps == 9


def test_a_hyper_parameter_that_came_later_has_its_default(tmp_path):
    def config(*options):
        return resolve("best", {"run.threads": 1} | dict(options))

    RunFolder.create(tmp_path / "run", config(), FakeZoo())
    path = tmp_path / "run" / "config.json"
    about = json.loads(path.read_text())
    del about["config"]["method"]["meta_batch"]
    path.write_text(json.dumps(sealed(about)))
    with pytest.raises(InputError, match=r"meta_batch: 1 there, 4 here"):
        RunFolder.reopen(tmp_path / "run", config(("method.meta_batch", 4)), FakeZoo())
    assert RunFolder.reopen(tmp_path / "run", config(), FakeZoo()).config == config()


@pytest.mark.parametrize("text", [None, "{", '{"schema": 7}'])
def test_no_run_folder(tmp_path, text):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match="run folder"):
        RunFolder(tmp_path)


def test_a_bad_line_of_metrics_is_kept_named_and_skipped(tmp_path):
    folder = create(tmp_path / "run")
    for step in range(1, 7):
        folder.log({"step": step})
    path = folder.path / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = b"\xff" + lines[1]
    path.write_bytes(b"".join(lines) + b'{"schema": 1, "st')
    folder.rewind(4)
    assert path.read_bytes() == b"".join(lines[:4]), "the cut line and what comes after step 4 are made again"
    with pytest.warns(UserWarning, match="cannot read line 2"):
        assert [line["step"] for line in folder.metrics()] == [1, 3, 4]


OLD_FREE = {
    "run": {"seed": 0, "minutes": None, "steps": 3, "threads": 1},
    "method": {
        "name": "free", "head": "class", "with_replacement": False, "rounds": 16, "distillation": "kl",
        "replay_patience": 1, "replay_limit": 2, "way": 3, "shot": 1, "queries": 2,
    },
    "recovery": {"name": "meta_generator", "bn_form": "relative", "last_step": True, "bn_weight": 10.0},
    "learner": {"name": "protonet"},
    "network": {"name": "conv4", "width": 4},
}  # fmt: skip


def old_run(folder, **method):
    made = create(folder)
    about = made.about | {"config": OLD_FREE | {"method": OLD_FREE["method"] | method}}
    write_atomic(folder / "config.json", to_json(sealed(about)))
    return folder


def test_a_run_of_an_older_dfml_is_read_in_the_words_of_today(tmp_path):
    method = RunFolder(old_run(tmp_path / "run")).config.build()
    assert (method.replay.patience, method.replay.limit, method.replay.way, method.replay.queries) == (1, 2, 3, 2)
    assert (method.rounds, method.recovery.weights["bn"]) == (16, 10.0)
    old = {"run": {"steps": 1}, "method": {"name": "consolidate", "committee": 7}}
    assert upgraded(old)["method"] == {"name": "consolidate", "answering_teachers": 7}


def test_a_run_with_a_choice_that_is_gone_is_refused_with_the_version_that_made_it(tmp_path):
    with pytest.raises(InputError, match=r"trained by dfml \S+ at commit \S+ with method.head = 'literal'"):
        RunFolder(old_run(tmp_path / "run", head="literal"))


def test_a_seed_changed_by_hand_is_refused_and_one_changed_on_purpose_is_noted(tmp_path):
    folder = create(tmp_path / "run")
    path = folder.path / "config.json"
    whole = path.read_text()
    path.write_text(whole.replace('"seed": 0', '"seed": 5'))
    with pytest.raises(InputError, match=r"config.json: changed since it was written"):
        RunFolder(folder.path)
    path.write_text(whole)
    (folder.path / "checkpoints" / "step-00000002").mkdir()
    again = RunFolder.reopen(folder.path, fake_config(steps=3, seed=5), FakeZoo(), override=True)
    assert again.about["changes"] == [{"after": 2, "key": "run.seed", "old": 0, "new": 5}]
    assert RunFolder.reopen(folder.path, fake_config(steps=3, seed=5), FakeZoo()).config.run.seed == 5
    other = FakeZoo()
    other.hash = "sha256:other"
    with pytest.raises(InputError, match="sha256:other here"):
        RunFolder.reopen(folder.path, fake_config(steps=3, seed=5), other, override=True)


def test_a_zoo_whose_cards_say_something_else_now_is_another_zoo(tmp_path):
    zoo = FakeZoo()
    zoo.cards_hash = "sha256:then"
    RunFolder.create(tmp_path / "run", fake_config(steps=3), zoo)
    zoo.cards_hash = "sha256:now"
    with pytest.raises(InputError, match="the cards of fake say something else"):
        RunFolder.reopen(tmp_path / "run", fake_config(steps=3), zoo)
    assert RunFolder.reopen(tmp_path / "run", fake_config(steps=3), FakeZoo()).about["zoo"]["cards"] == "sha256:then"


def test_a_folder_that_was_only_begun_is_begun_anew(tmp_path):
    whole = {p.name for p in create(tmp_path / "whole").path.iterdir()}
    for number, left in enumerate(
        ([], ["checkpoints"], ["checkpoints", "plots"], ["checkpoints", "plots", ".x.1.tmp"])
    ):
        place = tmp_path / str(number)
        place.mkdir()
        for name in left:
            (place / name).mkdir() if "." not in name else (place / name).write_text("")
        assert whole <= {p.name for p in create(place).path.iterdir()}
    (tmp_path / "other" / "checkpoints" / "step-00000001").mkdir(parents=True)
    with pytest.raises(InputError, match="not empty, and not a run folder"):
        create(tmp_path / "other")


def test_a_new_folder_is_whole_or_not_there(tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("dfml.runs.run_folder.write_atomic", killed)
    with pytest.raises(KeyboardInterrupt):
        create(tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda about: about.pop("recipe"), "no 'recipe' in it"),
        (lambda about: about.pop("zoo"), "no 'zoo' in it"),
        (lambda about: about["config"].pop("method"), "not the configuration of a run"),
        (lambda about: about["config"]["run"].update(step=3), "step: Extra inputs"),
        (lambda about: about["config"].pop("run"), "KeyError: 'run'"),
        (lambda about: about["config"].update(run="fast"), "not the configuration of a run"),
    ],
)
def test_a_misspelt_key_is_named(tmp_path, change, said):
    folder = create(tmp_path / "run")
    about = json.loads((folder.path / "config.json").read_text())
    change(about)
    (folder.path / "config.json").write_text(json.dumps(sealed(about)))
    with pytest.raises(InputError, match=said):
        RunFolder(folder.path)


def test_a_method_of_no_known_name_is_named_when_it_is_built(tmp_path):
    with pytest.raises(InputError, match="configuration 'fake': KeyError: 'fake'"):
        create(tmp_path / "run").config.build()


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"step": true}', '{"step": "2"}', '{"step": 2, "loss/a": "high"}', "[" * 100_000, "\x00"]
)
def test_a_line_of_metrics_that_is_none_is_named(tmp_path, text):
    folder = create(tmp_path / "run")
    folder.log({"step": 1, "loss/a": None, "aside": {"toy": "gone"}})
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write(text + "\n")
    folder.log({"step": 3})
    with pytest.warns(UserWarning, match="cannot read line 2"):
        assert [line["step"] for line in folder.metrics()] == [1, 3]
