import sys
from pathlib import Path

import pytest

from dfml.cli import main

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from small import OPTIONS, make_data, make_zoo


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    make_zoo(folder / "zoo")
    make_data(folder / "data")
    return folder


@pytest.fixture(scope="module")
def run(place):
    out = place / "run"
    assert main(["train", "--zoo", str(place / "zoo"), "--out", str(out), "--steps", "3", *OPTIONS]) == 0
    return out
