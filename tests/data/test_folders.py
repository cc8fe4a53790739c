"""Folders of images: sorted, resized where sizes differ, and errors that name the file."""

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dfml.data import DataSplits, ImageSet, load_image, load_support, read_folder, write_folder
from dfml.errors import InputError
from dfml.nn import InputSpec

folder_names = st.lists(
    st.text("abcdefgh _-.éΩ", min_size=1, max_size=6).filter(lambda name: not name.startswith(".")),
    min_size=1,
    max_size=4,
    unique=True,
)


@settings(max_examples=15, deadline=None)
@given(folder_names, st.integers(1, 12), st.integers(0, 99))
def test_round_trip(random_set, class_names, per_class, seed):
    part = random_set("x", sorted(class_names), per_class, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        train, *_ = write_folder(DataSplits("x", part, part, part), folder)
        read = read_folder(train)
    assert read.hash == part.hash


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_broken_image_is_an_input_error_or_an_image(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a" / "x.png"
        path.parent.mkdir()
        Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(path)
        content = bytearray(path.read_bytes())[: data.draw(st.integers(0, 120))]
        for _ in range(data.draw(st.integers(0, 4)) if content else 0):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(bytes(content))
        with suppress(InputError):
            assert isinstance(read_folder(folder), ImageSet)


def test_sorted_and_other_files_skipped(tmp_path, save_image):
    for name in ("b/2.png", "b/10.png", "a/1.jpg", "B/x.PNG"):
        save_image(tmp_path / name)
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "b/notes.txt").write_text("")
    (tmp_path / ".hidden").mkdir()
    save_image(tmp_path / "b/.3.png")
    images = read_folder(tmp_path)
    assert images.class_names == ("B", "a", "b")
    assert images.labels.tolist() == [0, 1, 2, 2]
    assert images.images.shape == (4, 3, 8, 8)


def test_mixed_sizes_take_the_most_common(tmp_path, save_image):
    for i, size in enumerate([(8, 8), (6, 6), (6, 6), (20, 30)]):
        save_image(tmp_path / f"a/{i}.png", size)
    assert read_folder(tmp_path).images.shape == (4, 3, 6, 6)
    assert read_folder(tmp_path, size=16).images.shape == (4, 3, 16, 16)
    for i in range(4, 9):
        save_image(tmp_path / f"a/{i}.png", (12, 10))
    assert read_folder(tmp_path).images.shape == (9, 3, 10, 10)  # networks take squares
    with pytest.raises(InputError, match="at least 1 pixel"):
        read_folder(tmp_path, size=0)


def test_resizing_is_antialiased(tmp_path):
    """A fine checkerboard becomes grey; taking every fourth pixel would give black or white."""
    board = (np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)
    (tmp_path / "a").mkdir()
    Image.fromarray(board).save(tmp_path / "a/x.png")
    small = read_folder(tmp_path, size=8).images.float()
    assert 100 < small.min() <= small.max() < 155


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_grey_and_transparent_become_rgb(tmp_path, save_image, mode):
    save_image(tmp_path / "a/x.png", mode=mode)
    assert read_folder(tmp_path).images.shape == (1, 3, 8, 8)


def test_16_bits_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(tmp_path / "a/deep.png")
    with pytest.raises(InputError, match=r"deep\.png: more than 8 bits"):
        read_folder(tmp_path)


def test_photographs_stand_upright(tmp_path):
    picture = Image.fromarray(np.zeros((4, 8, 3), np.uint8))
    exif = picture.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    picture.save(tmp_path / "x.jpg", exif=exif)
    spec = InputSpec(size=8)
    assert load_image(tmp_path / "x.jpg", spec).shape == (3, 8, 8)
    (tmp_path / "set/a").mkdir(parents=True)
    picture.save(tmp_path / "set/a/x.jpg", exif=exif)
    assert read_folder(tmp_path / "set").images.shape == (1, 3, 4, 4)


def test_errors_name_the_folder_or_file(tmp_path, save_image):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        read_folder(tmp_path / "nowhere")
    (tmp_path.parent / "file.txt").write_text("")
    with pytest.raises(InputError, match=r"file\.txt: a file, no folder"):
        read_folder(tmp_path.parent / "file.txt")
    with pytest.raises(InputError, match="no folders in it"):
        read_folder(tmp_path)
    save_image(tmp_path / "a/x.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: a class folder without images"):
        read_folder(tmp_path)
    (tmp_path / "empty/broken.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"broken\.png: not a readable image"):
        read_folder(tmp_path)


def test_load_image_fits_the_spec(tmp_path, save_image):
    save_image(tmp_path / "x.png", (20, 10))
    image = load_image(tmp_path / "x.png", InputSpec(size=16))
    assert image.shape == (3, 16, 16)
    assert image.dtype == torch.float32
    assert 0 <= image.min() <= image.max() <= 1
    grey = InputSpec(channels=1, size=16, mean=(0.5,), std=(0.25,))
    assert load_image(tmp_path / "x.png", grey).shape == (1, 16, 16)
    with pytest.raises(InputError, match=r"missing\.png: no such file"):
        load_image(tmp_path / "missing.png", grey)
    with pytest.raises(InputError, match="2 channels"):
        load_image(tmp_path / "x.png", InputSpec(channels=2, mean=(0.5, 0.5), std=(0.25, 0.25)))


def test_load_support_takes_uneven_shots(tmp_path, save_image):
    for name in ("b/1.png", "b/2.png", "a/1.png"):
        save_image(tmp_path / name, (20, 20))
    images, labels, names = load_support(tmp_path, InputSpec(size=16))
    assert (images.shape, labels.tolist(), names) == ((3, 3, 16, 16), [0, 1, 1], ("a", "b"))


def test_load_support_wants_two_classes(tmp_path, save_image):
    save_image(tmp_path / "a/1.png")
    with pytest.raises(InputError, match="at least 2 class folders"):
        load_support(tmp_path, InputSpec(size=16))


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b"])
def test_class_names_that_no_folder_can_have(random_set, tmp_path, name):
    part = random_set("x", [name])
    with pytest.raises(InputError, match="class name"):
        write_folder(DataSplits("x", part, part, part), tmp_path / "out")


def test_write_folder_refuses_what_is_there(random_set, tmp_path):
    part = random_set("x", ["a"])
    write_folder(DataSplits("x", part, part, part), tmp_path)
    with pytest.raises(InputError, match="there already"):
        write_folder(DataSplits("x", part, part, part), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_folder(DataSplits("x", part, part, part), tmp_path / "file")


def test_a_full_disk_leaves_no_half_of_a_folder(random_set, tmp_path, monkeypatch):
    save, saved = Image.Image.save, []

    def full(picture, path, **options):
        saved.append(path)
        if len(saved) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(picture, path, **options)

    monkeypatch.setattr(Image.Image, "save", full)
    splits = DataSplits("x", *(random_set("x", [name]) for name in "abc"))
    with pytest.raises(InputError, match=r"val: cannot be written \(No space left on device\)"):
        write_folder(splits, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train"]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_a_transparent_pixel_hides_does_not_show(tmp_path, mode):
    """The left half is opaque black, the right half hides black under full transparency: white shows there."""
    alpha = Image.new("L", (8, 8), 255)
    alpha.paste(0, (4, 0, 8, 8))
    picture = Image.new("LA" if mode == "LA" else "RGBA", (8, 8), 0)
    picture.putalpha(alpha)
    if mode == "P":
        picture = Image.new("P", (8, 8), 1)
        picture.putpalette([0, 0, 0, 0, 0, 0])
        picture.paste(0, (4, 0, 8, 8))
        picture.info["transparency"] = 0
    picture.save(tmp_path / "half.png", **({"transparency": 0} if mode == "P" else {}))
    for channels in (1, 3):
        spec = InputSpec(channels, 8, (0.5,) * channels, (0.25,) * channels)
        image = load_image(tmp_path / "half.png", spec)
        assert (image[:, :, :4] == 0).all()
        assert (image[:, :, 4:] == 1).all()


@pytest.mark.parametrize("suffix", [".jfif", ".JPG", ".webp", ".tga"])
def test_whatever_pillow_reads_is_an_image(tmp_path, suffix):
    for name in "ab":
        (tmp_path / name).mkdir()
        kind = Image.registered_extensions()[suffix.lower()]
        Image.new("RGB", (8, 8), "red").save(tmp_path / name / f"one{suffix}", format=kind)
    assert len(read_folder(tmp_path)) == 2


def test_an_image_above_pillows_limit_is_refused_by_that_name(tmp_path, monkeypatch):
    Image.new("RGB", (30, 30)).save(tmp_path / "big.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match="MAX_IMAGE_PIXELS"):
        load_image(tmp_path / "big.png", InputSpec(size=8))
