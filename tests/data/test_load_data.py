"""load_data: glyphs, given splits, seeded splits by class."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfml.data import DataSplits, given_splits, load_data, split_classes, write_folder, write_npz
from dfml.data.load import SPLITS
from dfml.errors import InputError


@pytest.fixture
def splits(random_set):
    sets = [random_set(s, [f"{s}_{i}" for i in range(3)], seed=i) for i, s in enumerate(SPLITS)]
    return DataSplits("x", *sets)


def hashes(splits: DataSplits) -> list[str]:
    return [getattr(splits, split).hash for split in SPLITS]


def test_glyphs_by_name():
    assert load_data("glyphs").name == "glyphs"


@pytest.mark.parametrize("write", [write_folder, write_npz])
def test_given_splits_are_used_as_they_are(tmp_path, splits, write):
    write(splits, tmp_path)
    assert hashes(load_data(tmp_path)) == hashes(splits)


def test_folders_and_arrays_mixed_and_size(tmp_path, splits):
    write_folder(splits, tmp_path)
    loaded = load_data(str(tmp_path), size=12)
    assert [getattr(loaded, s).images.shape[-1] for s in SPLITS] == [12, 12, 12]


def test_a_split_that_is_missing(tmp_path, splits):
    write_npz(splits, tmp_path)
    (tmp_path / "val.npz").unlink()
    with pytest.raises(InputError, match="train, test but no val"):
        load_data(tmp_path)


def test_classes_in_two_splits_are_refused(splits):
    with pytest.raises(InputError, match="train and test both have the classes train_0"):
        given_splits("x", splits.train, splits.val, splits.train)


def test_shapes_that_differ_are_refused(random_set, splits):
    with pytest.raises(InputError, match="the same shape"):
        given_splits("x", splits.train, splits.val, random_set("t", ["c"], size=9))


def test_one_unsplit_folder_or_file(random_set, tmp_path, splits, save_image):
    names = [f"c{i:02d}" for i in range(25)]
    part = random_set("x", names)
    np.savez(
        tmp_path / "all.npz",
        images=part.images.permute(0, 2, 3, 1).numpy(),
        labels=part.labels.numpy(),
        class_names=np.array(names),
    )
    one = load_data(tmp_path / "all.npz", seed=3)
    assert [len(getattr(one, s).class_names) for s in SPLITS] == [16, 4, 5]
    for name in ("car", "train", "bus", "val"):  # `train` holds images: it is a class
        save_image(tmp_path / "vehicles" / name / "x.png")
    vehicles = load_data(tmp_path / "vehicles")
    assert sorted(n for s in SPLITS for n in getattr(vehicles, s).class_names) == ["bus", "car", "train", "val"]


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        load_data(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no folders in it"):
        load_data(tmp_path)


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 40), st.integers(0, 2**31 - 1))
def test_split_classes_partitions_the_classes(random_set, count, seed):
    part = random_set("x", [f"c{i:02d}" for i in range(count)], per_class=1, size=2)
    one, two = split_classes(part, seed=seed), split_classes(part, seed=seed)
    assert hashes(one) == hashes(two)
    classes = [getattr(one, s).class_names for s in SPLITS]
    assert sorted(sum(classes, ())) == list(part.class_names)
    assert all(c == tuple(sorted(c)) and len(c) >= 1 for c in classes)
    assert abs(len(classes[0]) - 0.64 * count) <= 2


def test_other_seeds_split_otherwise(random_set):
    part = random_set("x", [f"c{i:02d}" for i in range(20)], per_class=1)
    assert len({split_classes(part, seed=seed).test.class_names for seed in range(5)}) == 5


def test_too_few_classes_to_split(random_set):
    with pytest.raises(InputError, match="at least 3 classes"):
        split_classes(random_set("x", ["a", "b"]))
