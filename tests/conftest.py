"""Fixtures of several folders of tests."""

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def own_consent(tmp_path_factory, monkeypatch):
    """What tests agree to run is not what the user of this machine agrees to."""
    monkeypatch.setenv("DFML_CONFIG", str(tmp_path_factory.mktemp("config")))


@pytest.fixture
def shades(tmp_path):
    """A data folder whose images of class k are of the one shade 20 k; the classes of train are a, b and c."""
    for split, names in (("train", "abc"), ("val", "de"), ("test", "fg")):
        labels = np.arange(len(names)).repeat(3)
        images = np.broadcast_to((20 * labels).astype(np.uint8)[:, None, None, None], (len(labels), 16, 16, 3))
        np.savez(tmp_path / f"{split}.npz", images=images, labels=labels, class_names=np.array(list(names)))
    return str(tmp_path)
