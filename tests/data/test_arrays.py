"""npz files: what is written is read back; what is broken is an InputError that names the file."""

import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dfml.data import DataSplits, ImageSet, load_images, read_npz, write_npz
from dfml.errors import InputError

names = st.lists(
    st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), min_size=1, max_size=6),
    min_size=1,
    max_size=4,
    unique=True,
)


def good(**changes) -> dict:
    arrays = {
        "images": np.zeros((4, 8, 8, 3), np.uint8),
        "labels": np.array([0, 1, 1, 0]),
        "class_names": np.array(["a", "b"]),
    }
    return {key: value for key, value in (arrays | changes).items() if value is not None}


@settings(max_examples=25, deadline=None)
@given(names, st.integers(1, 3), st.sampled_from([1, 5]), st.sampled_from([1, 3]), st.integers(0, 99))
def test_round_trip(random_set, class_names, per_class, size, channels, seed):
    part = random_set("x", sorted(class_names), per_class, size, channels, seed)
    with tempfile.TemporaryDirectory() as folder:
        written = write_npz(DataSplits("x", part, part, part), folder)
        assert [p.name for p in written] == ["train.npz", "val.npz", "test.npz"]
        assert read_npz(written[0]).hash == part.hash


@settings(max_examples=25, deadline=None)
@given(names, st.randoms(use_true_random=False))
def test_classes_come_out_sorted_with_their_own_images(random_set, class_names, random):
    random.shuffle(class_names)
    part = random_set("x", class_names, 2)
    with tempfile.TemporaryDirectory() as folder:
        read = read_npz(write_npz(DataSplits("x", part, part, part), folder)[0])
    assert read.class_names == tuple(sorted(class_names))
    for c, name in enumerate(read.class_names):
        own = part.images[part.members[class_names.index(name)]]
        assert torch.equal(read.images[read.members[c]], own)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": None}, "no class_names"),
        ({"images": None, "labels": None}, "no images, labels"),
        ({"images": np.zeros((4, 8, 8, 3), np.float32)}, "convert the images to bytes"),
        ({"images": np.zeros((4, 3, 8, 8), np.uint8)}, "channels last"),
        ({"images": np.zeros((4, 8, 8), np.uint8)}, "channels last"),
        ({"images": np.zeros((4, 8, 6, 3), np.uint8)}, "networks take squares"),
        ({"images": np.zeros((0, 8, 8, 3), np.uint8), "labels": np.zeros(0, int)}, "at least one image"),
        ({"labels": np.zeros(4)}, "integer label"),
        ({"labels": np.zeros(3, int)}, "one integer label per image"),
        ({"labels": np.array([0, 1, 2, 0])}, r"labels 0\.\.2"),
        ({"labels": np.array([0, -1, 1, 0])}, r"labels -1\.\.1"),
        ({"labels": np.zeros(4, int)}, "1 of 2 classes without images, 'b'"),
        ({"class_names": np.array([0, 1])}, "list of strings"),
        ({"class_names": np.array(["a", "a"])}, "repeats"),
        ({"class_names": np.array(["a", None], dtype=object)}, "without Python objects"),
    ],
)
def test_bad_arrays_name_the_file(tmp_path, changes, message):
    path = tmp_path / "bad.npz"
    np.savez(path, **good(**changes))
    with pytest.raises(InputError, match=message) as caught:
        read_npz(path)
    assert str(path) in caught.value.given


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_broken_bytes_are_an_input_error_or_a_valid_set(data):
    """Truncated, overwritten or arbitrary bytes: never another exception."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.npz"
        np.savez_compressed(path, **good())
        content = bytearray(path.read_bytes())
        if data.draw(st.booleans()):
            content = content[: data.draw(st.integers(0, len(content)))]
        for _ in range(data.draw(st.integers(0, 5)) if content else 0):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(data.draw(st.sampled_from([bytes(content), b"PK\3\4" + bytes(content[9:])])))
        with suppress(InputError):
            assert isinstance(read_npz(path), ImageSet)


def test_other_files(tmp_path):
    np.save(tmp_path / "lone.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("hello")
    for name in ("lone.npy", "text.npz", "missing.npz", "missing"):
        with pytest.raises(InputError, match=name):
            load_images(tmp_path / name)


def test_unwritable(random_set, tmp_path):
    (tmp_path / "file").write_text("")
    part = random_set("x", ["a"])
    with pytest.raises(InputError, match="cannot be written"):
        write_npz(DataSplits("x", part, part, part), tmp_path / "file")


def test_an_array_whose_head_says_less_than_there_is_is_refused(tmp_path):
    images, names = np.zeros((4, 2, 2, 1), np.uint8), np.array(["a", "b"])
    np.savez(tmp_path / "x.npz", images=images, labels=np.array([0, 1, 0, 1]), class_names=names)
    content = (tmp_path / "x.npz").read_bytes()
    assert content.count(b"'shape': (4, 2, 2, 1)") == 1
    (tmp_path / "x.npz").write_bytes(content.replace(b"'shape': (4, 2, 2, 1)", b"'shape': (4, 1, 1, 1)"))
    with pytest.raises(InputError, match="Bad CRC-32"):
        read_npz(tmp_path / "x.npz")
