import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from dfml.errors import InputError
from dfml.evaluation.manifest import Manifest, make_manifest


def test_episodes_hold_distinct_images_of_their_classes(image_set):
    manifest = make_manifest(image_set, way=3, shot=2, queries=4, episodes=20, seed=1, split="test")
    assert len(manifest) == len(manifest.episodes) == 20
    for episode in manifest.episodes:
        images = torch.cat([episode.support, episode.query])
        assert len(images.unique()) == 3 * (2 + 4)
        classes = image_set.labels[episode.support]
        assert len(classes.unique()) == 3
        # Labels count classes 0..way-1 in the same order in support and query.
        assert torch.equal(image_set.labels[episode.query], classes[::2][episode.query_y])
        assert episode.support_y.tolist() == [0, 0, 1, 1, 2, 2]


def test_same_seed_same_manifest_and_every_input_counts(image_set):
    values = {"way": 3, "shot": 1, "queries": 4, "episodes": 10, "seed": 1, "split": "test"}
    first = make_manifest(image_set, **values)
    assert make_manifest(image_set, **values).hash == first.hash
    for change in ({"seed": 2}, {"split": "val"}, {"shot": 2}, {"way": 4}, {"queries": 5}):
        assert make_manifest(image_set, **(values | change)).hash != first.hash
    other = replace(image_set, images=image_set.images.flip(0))
    assert make_manifest(other, **values).hash != first.hash


def test_hash_is_frozen(image_set):
    # The draws must never change: published rows name this hash. Fails if sampling or hashing is touched.
    fixed = replace(image_set, images=torch.zeros_like(image_set.images))
    manifest = make_manifest(fixed, way=3, shot=1, queries=4, episodes=10, seed=0, split="test")
    assert manifest.hash == "sha256:3d0d82b840650c567f1ec9f06c292013bc7496a40c0abd099c38062912844cd7"


def test_longer_manifest_starts_the_same(image_set):
    short, long = (
        make_manifest(image_set, way=3, shot=1, queries=4, episodes=n, seed=0, split="test") for n in (5, 12)
    )
    assert long.first(5).hash == short.hash
    assert long.first(99) is long


def test_save_and_load(image_set, tmp_path):
    manifest = make_manifest(image_set, way=3, shot=2, queries=4, episodes=7, seed=3, split="val")
    manifest.save(tmp_path / "m.npz")
    loaded = Manifest.load(tmp_path / "m.npz")
    assert loaded.hash == manifest.hash
    assert (loaded.split, loaded.seed, loaded.name) == ("val", 3, "patterns")
    assert torch.equal(loaded.query, manifest.query)


def test_damaged_files_are_refused(image_set, tmp_path):
    manifest = make_manifest(image_set, way=3, shot=2, queries=4, episodes=7, seed=3, split="val")
    path = tmp_path / "m.npz"
    manifest.save(path)
    contents = path.read_bytes()
    path.write_bytes(contents[: len(contents) // 2])
    with pytest.raises(InputError, match="not a manifest"):
        Manifest.load(path)
    with pytest.raises(InputError, match="not a manifest"):
        Manifest.load(tmp_path / "absent.npz")
    path.write_bytes(contents)
    with np.load(path) as file:
        arrays = {k: file[k] for k in file.files}
    arrays["query"][0, 0] += 1
    np.savez_compressed(path, **arrays)
    with pytest.raises(InputError, match="as its header says"):
        Manifest.load(path)
    np.savez_compressed(path, **arrays | {"header": np.array(json.dumps({"schema": 1}))})
    with pytest.raises(InputError, match="not a manifest"):
        Manifest.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"way": 9}, "patterns, test: 8 classes"),
        ({"shot": 9}, "of which 0 have at least 13 images"),
        ({"queries": 12}, "of which 0 have at least 13 images"),
        ({"way": 1}, "at least 2 classes"),
        ({"shot": 0}, "each at least 1"),
        ({"queries": 0}, "0 queries"),
        ({"episodes": 1}, "1 episodes"),
    ],
)
def test_what_does_not_fit_is_explained(image_set, change, message):
    values = {"way": 3, "shot": 1, "queries": 4, "episodes": 10, "split": "test"} | change
    with pytest.raises(InputError, match=message):
        make_manifest(image_set, **values)


def test_keys_tell_episodes_apart_and_lists_of_several_lengths_beside_each_other(image_set):
    values = {"way": 3, "shot": 1, "queries": 4, "episodes": 10, "seed": 1, "split": "test"}
    manifest = make_manifest(image_set, **values)
    assert len(manifest.keys.unique()) == 10
    assert torch.equal(make_manifest(image_set, **values | {"episodes": 4}).keys, manifest.keys[:4])
    for change in ({"seed": 2}, {"shot": 2}):
        assert not bool(torch.isin(make_manifest(image_set, **values | change).keys, manifest.keys).any())
    other = replace(image_set, images=image_set.images.flip(0))
    assert not bool(torch.isin(make_manifest(other, **values).keys, manifest.keys).any())
