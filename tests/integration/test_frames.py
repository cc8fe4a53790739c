"""`dfml train` reaches its first gradient in few frames: who follows it with a debugger meets no relays."""

import sys
from pathlib import Path

import pytest
import torch
from small import CONSOLIDATE, FREE, make_zoo

import dfml
from dfml.cli import main

ROOT = str(Path(dfml.__file__).parent)
MOST = 10


@pytest.mark.parametrize(("recipe", "small"), [("free", FREE), ("best", CONSOLIDATE)])
def test_the_first_gradient_is_at_most_ten_frames_deep(tmp_path, monkeypatch, recipe, small):
    deep, gradient = [], torch.autograd.grad

    def counting(*arguments, **options):
        if not deep:
            frame = sys._getframe(1)
            while frame is not None:
                if frame.f_code.co_filename.startswith(ROOT):
                    deep.append(f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}")
                frame = frame.f_back
        return gradient(*arguments, **options)

    monkeypatch.setattr(torch.autograd, "grad", counting)
    zoo, options = make_zoo(tmp_path / "zoo"), [f"--{k}={v}" for k, v in small.items()]
    assert (
        main(["train", "--zoo", str(zoo), "--out", str(tmp_path / "run"), "--recipe", recipe, "--steps", "1", *options])
        == 0
    )
    assert 0 < len(deep) <= MOST, deep
    assert deep[-1] == "__init__.main"
