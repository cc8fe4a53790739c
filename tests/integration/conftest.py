import pytest
from small import make_data, make_zoo


@pytest.fixture(scope="session")
def zoo_path(tmp_path_factory):
    return make_zoo(tmp_path_factory.mktemp("toys") / "zoo")


@pytest.fixture(scope="session")
def data_path(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data") / "data")
