"""Compiled updates: the numbers of plain ones, in one graph."""

import shutil

import pytest
from small import run_script

from dfml import train
from dfml.errors import InputError

NEEDS_COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=[pytest.mark.slow, NEEDS_COMPILER])])
@pytest.mark.parametrize("recipe", ["free", "best"])
def test_compiled_updates_give_the_numbers_of_plain_ones(recipe, backend, zoo_path):
    plain, compiled = run_script("compiled.py", recipe, backend, zoo_path)
    assert "distillation" in plain[-1]
    for expected, given in zip(plain, compiled, strict=True):
        assert given.keys() == expected.keys()
        for name in expected.keys() - {"recover_seconds"}:
            assert given[name] == pytest.approx(expected[name], rel=1e-3, abs=1e-4), name


def test_a_method_that_compiles_nothing_says_so_before_any_work(zoo_path, tmp_path):
    with pytest.raises(InputError, match="Average"):
        train(zoo_path, out=tmp_path / "run", overrides={"method": "average", "run.compile": True})
    assert not (tmp_path / "run").exists()
