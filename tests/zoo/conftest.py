import pytest

from tiny_zoo import write_tiny_zoo


@pytest.fixture
def folder(tmp_path):
    return write_tiny_zoo(tmp_path / "toys")
