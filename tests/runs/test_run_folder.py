import json

import pytest
from fakes import FakeZoo, fake_config

from dfml.errors import InputError
from dfml.recipes.resolving import resolve
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
    del about["config"]["method"]["meta_batch"], about["seal"]
    path.write_text(json.dumps(about))
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


def test_a_configuration_changed_by_hand_is_refused(tmp_path):
    create(tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    about = json.loads(path.read_text())
    about["config"]["run"]["seed"] = 7
    path.write_text(json.dumps(about))
    with pytest.raises(InputError, match=r"config\.json: changed since dfml wrote it") as error:
        RunFolder(tmp_path / "run")
    assert "--override" in error.value.do


def test_values_are_overridden_on_purpose_and_told_of(tmp_path):
    create(tmp_path / "run").checkpoints.save(2, {"step": 2})
    with pytest.raises(InputError, match="--override"):
        RunFolder.reopen(tmp_path / "run", fake_config(steps=9, seed=1), FakeZoo())
    for seed, old in ((1, 0), (5, 1)):
        folder = RunFolder.reopen(tmp_path / "run", fake_config(steps=9, seed=seed), FakeZoo(), override=True)
        assert folder.config.run.seed == seed
        assert folder.about["changes"][-1] == {"step": 2, "key": "run.seed", "old": old, "new": seed}
    assert len(folder.about["changes"]) == 2
    other = FakeZoo()
    other.hash = "sha256:other"
    with pytest.raises(InputError, match="sha256:other here"):
        RunFolder.reopen(tmp_path / "run", fake_config(steps=9, seed=5), other, override=True)
