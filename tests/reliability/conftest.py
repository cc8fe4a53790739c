import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from small import make_data, make_zoo


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reliability")
    make_zoo(folder / "zoo")
    make_data(folder / "data")
    return folder
