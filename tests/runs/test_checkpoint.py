import copy
import json
from pathlib import Path

import pytest
import torch
from fakes import FakeMethod, FakeZoo

from dfml.errors import InputError
from dfml.runs.checkpoint import Checkpoints, CorruptCheckpoint, load_tree, restore, save_tree


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype and a.stride() == b.stride()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and a == b


def test_round_trip(tmp_path):
    network = torch.nn.Linear(3, 2)
    adam = torch.optim.Adam(network.parameters(), lr=0.1)
    network(torch.ones(1, 3)).sum().backward()
    adam.step()
    tree = {
        "model": dict(network.state_dict()),
        "adam": adam.state_dict(),
        "bytes": torch.arange(6, dtype=torch.uint8).reshape(2, 3),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(True),
        "last": torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        "half": torch.randn(3).half(),
        "shared": [tensor := torch.randn(2), tensor],
        "plain": [1, 0.1 + 0.2, "text", None, True, (1, "two"), {1: "one", "$": {"$": 2}}, float("inf")],
        "nothing": {},
    }
    save_tree(tree, tmp_path / "a")
    assert same(load_tree(tmp_path / "a"), copy.deepcopy(tree))
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_only_tensors_and_plain_values(tmp_path):
    with pytest.raises(TypeError, match="Linear in a checkpoint"):
        save_tree({"x": torch.nn.Linear(1, 1)}, tmp_path / "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["truncate", "flip", "missing", "seal", "no object", "schema"])
def test_damage_is_noticed_and_the_previous_one_used(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (1, 2):
        path = checkpoints.save(step, {"step": step, "w": torch.randn(50)})
    tensors = path / "tensors.safetensors"
    data = bytearray(tensors.read_bytes())
    if damage == "truncate":
        tensors.write_bytes(data[:-7])
    elif damage == "flip":
        data[-1] ^= 1
        tensors.write_bytes(data)
    elif damage == "missing":
        (path / "tree.json").unlink()
    elif damage == "seal":
        (path / "seal.json").write_text("{")
    elif damage == "no object":
        (path / "seal.json").write_text("1e999")
    else:
        (path / "seal.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(CorruptCheckpoint):
        load_tree(path)
    with pytest.warns(UserWarning, match="damaged checkpoints are passed over"):
        assert checkpoints.latest()["step"] == 1


def test_the_newest_stay(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.latest() is None
    for step in (1, 2, 10, 10):
        checkpoints.save(step, {"step": step})
    assert [p.name for p in checkpoints.paths()] == ["step-00000010", "step-00000002"]
    assert checkpoints.latest() == {"step": 10}


def test_a_crash_while_writing_leaves_nothing(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"step": 1})
    monkeypatch.setattr("dfml.files._sync", lambda path: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(InputError, match=r"step-00000002: cannot be written \(disk full"):
        checkpoints.save(2, {"step": 2})
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


def test_what_is_damaged_is_said_and_where_all_is_nothing_begins_anew(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (1, 2, 3):
        checkpoints.save(step, {"step": step})
    (tmp_path / "step-00000003" / "tree.json").write_text("{}")
    (tmp_path / "step-00000002" / "tensors.safetensors").unlink()
    (tmp_path / "step-notes").mkdir()
    with pytest.warns(
        UserWarning, match=r"step-00000001 is taken:\n.*step-00000003.*sha256.*\n.*step-00000002.*No such"
    ):
        assert checkpoints.latest()["step"] == 1
    (tmp_path / "step-00000001" / "seal.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"no sound checkpoint among 3\n.*\n.*\n.*nested too deep"):
        checkpoints.latest()


def test_a_state_of_another_layout_is_said_to_be_so(tmp_path):
    state = FakeMethod().init(FakeZoo(), None)
    saved = {"step": 1, "state": {"network": {}, "optimiser": {}, "seen": []}}
    with pytest.raises(InputError, match=r"run: its checkpoint does not fit(.|\n)*train anew with another --out"):
        restore(state, saved, Path("run"))
