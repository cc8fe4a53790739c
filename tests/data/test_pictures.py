"""Image files of all kinds: what is read of them, what it costs, and what is said of the rest."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from dfml.data import load_data, load_image, load_split, read_folder
from dfml.data.folders import LARGEST, class_folders, usual_side
from dfml.data.pictures import read_picture
from dfml.errors import InputError
from dfml.nn import InputSpec


def test_one_strip_or_photograph_does_not_decide_the_size(tmp_path, save_image):
    for c in range(4):
        for i in range(3):
            save_image(tmp_path / f"c{c}/{i}.png", (60 + c, 70 + 10 * c + i))
    before = read_folder(tmp_path).images.shape
    assert before[-1] in range(60, 64)
    save_image(tmp_path / "c0/strip.png", (9, 900))
    save_image(tmp_path / "c1/photo.png", (1500, 2000))
    assert read_folder(tmp_path).images.shape[1:] == before[1:]
    assert read_folder(tmp_path, size=20).images.shape[1:] == (3, 20, 20)


def test_the_usual_side_is_the_median_of_the_shorter_sides_with_a_bound():
    assert usual_side([(17, 900), (64, 80), (70, 66)]) == 64
    assert usual_side([(4000, 3000)] * 3) == LARGEST


def test_images_are_cropped_to_their_middle_square_and_not_squeezed(tmp_path):
    array = np.zeros((32, 96, 3), np.uint8)
    array[:, 32:64] = 255  # the middle square
    (tmp_path / "a").mkdir()
    Image.fromarray(array).save(tmp_path / "a/wide.png")
    assert read_folder(tmp_path, size=32).images.min() == 255
    assert load_image(tmp_path / "a/wide.png", InputSpec(size=16)).min() == 1


def test_photographs_are_reduced_as_they_are_decoded(tmp_path):
    """The result is close to that of reading everything and then resizing."""
    rng = np.random.default_rng(0)
    whole = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)).resize((1600, 1200))
    for name in ("photo.jpg", "photo.png"):
        whole.save(tmp_path / name)
        picture = read_picture(tmp_path / name, 3, side=32)
        assert 64 <= min(picture.shape[1:]) < 200
        full = InputSpec(size=32).fit(read_picture(tmp_path / name, 3)[None].float() / 255)
        assert (load_image(tmp_path / name, InputSpec(size=32)) - full[0]).abs().mean() < 0.01


MEMORY = """
    import resource, sys
    import dfml.data
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    images = dfml.data.load_data(sys.argv[1]).train.images
    print(list(images.shape[1:]), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_photographs_of_12_megapixels_take_little_memory(tmp_path):
    photo = Image.new("RGB", (4000, 3000), "green")
    for c in range(6):
        (tmp_path / f"c{c}").mkdir()
        for i in range(4):
            photo.save(tmp_path / f"c{c}/{i}.jpg")
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEMORY), str(tmp_path)], capture_output=True, text=True, check=True
    )
    shape, megabytes = ran.stdout.rsplit(" ", 1)
    assert shape == f"[3, {LARGEST}, {LARGEST}]"
    assert int(megabytes) < 100, "24 of them take 864 MB of pixels"


def test_beyond_pillows_limit_the_message_says_so(tmp_path, save_image, monkeypatch):
    save_image(tmp_path / "a/x.png", (40, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(InputError, match=r"at most 1,000 pixels, Pillow's limit"):
        read_folder(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # between its warning and its error
    assert read_folder(tmp_path).images.shape == (1, 3, 40, 40)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize(("ground", "value"), [("white", 255), ("black", 0), ("#800000", 128)])
def test_what_is_behind_transparent_pixels_can_be_chosen(tmp_path, mode, ground, value):
    (tmp_path / "a").mkdir()
    picture = Image.new("RGBA", (8, 8), (0, 255, 0, 0)).convert(mode)
    options = {"transparency": 0} if mode == "P" else {}
    picture.save(tmp_path / "a/x.png", **options)
    assert int(read_folder(tmp_path, ground=ground).images[0, 0].float().mean()) == value
    assert load_image(tmp_path / "a/x.png", InputSpec(size=8), ground=ground)[0].mean() == pytest.approx(value / 255)


def test_a_ground_that_is_no_colour_is_refused(tmp_path, save_image):
    save_image(tmp_path / "a/x.png")
    with pytest.raises(InputError, match="ground 'whte'"):
        read_folder(tmp_path, ground="whte")


def test_large_transparent_images_are_reduced_without_their_hidden_colour(tmp_path):
    array = np.zeros((400, 400, 4), np.uint8)
    array[:, :200] = (255, 0, 0, 255)  # the right half is black and transparent
    Image.fromarray(array).save(tmp_path / "x.png")
    image = load_image(tmp_path / "x.png", InputSpec(size=10))
    assert image[0].min() > 0.98, "red and white have no dark pixel"


def test_what_is_left_out_is_named(tmp_path, save_image):
    save_image(tmp_path / "a/1.png")
    save_image(tmp_path / "a/day2/2.png")
    save_image(tmp_path / "b/1.png")
    (tmp_path / "b/notes.txt").write_text("")
    (tmp_path / "b/.hidden").mkdir()
    save_image(tmp_path / "b/.hidden/x.png")
    with pytest.warns(UserWarning, match=r"2 files left out.*: a/day2/2\.png, b/notes\.txt$"):
        found = class_folders(tmp_path)
    assert {name: len(files) for name, files in found.items()} == {"a": 1, "b": 1}
    save_image(tmp_path / "c/deep/3.png")
    with pytest.raises(InputError, match=r"c: a class folder without images \(3 files left out.*c/deep/3\.png"):
        class_folders(tmp_path)


def test_files_left_out_are_counted_and_the_first_named_whatever_their_names(tmp_path, save_image):
    save_image(tmp_path / "a/1.png")
    for i in range(40):
        (tmp_path / f"a/note{i:02d}.txt").write_text("")
    for name in ("a, b and c", "line\nbreak\x1b[31m", "long" * 50):
        (tmp_path / f"a/{name}.md").write_text("")
    with pytest.warns(UserWarning, match="left out") as told:
        class_folders(tmp_path)
    (said,) = (str(one.message) for one in told)
    assert "43 files left out" in said
    assert "'a/a, b and c.md', a/line\\nbreak\\x1b[31m.md, a/longlong" in said
    assert said.endswith("longlong.md, a/note00.txt, a/note01.txt and 38 more")
    assert said.isprintable()
    assert len(said) - len(str(tmp_path)) < 300


@pytest.mark.parametrize("ending", [".avif", ".jfif", ".jpe", ".webp", ".tiff"])
def test_every_format_of_pillow_is_read(tmp_path, ending):
    (tmp_path / "a").mkdir()
    if Image.registered_extensions().get(ending) not in Image.SAVE:
        pytest.skip("this Pillow does not write it")
    Image.new("RGB", (8, 8), "red").save(tmp_path / f"a/x{ending}")
    assert len(read_folder(tmp_path)) == 1


def test_a_class_that_is_called_train_stays_one_whatever_an_editor_leaves_in_it(tmp_path, save_image):
    for name in ("train", "car", "bus", "boat"):
        save_image(tmp_path / f"{name}/1.png")
    (tmp_path / "train/.ipynb_checkpoints").mkdir()
    assert len(load_data(tmp_path).train.class_names) == 2


def test_new_classes_are_all_for_judging_and_known_ones_are_divided_as_they_were(tmp_path, save_image):
    for c in range(10):
        save_image(tmp_path / f"c{c}/1.png")
    assert len(load_split(tmp_path, "test").class_names) == 10
    learned = load_data(tmp_path).train.class_names[1:]
    assert load_split(tmp_path, "test", known=learned).class_names == load_data(tmp_path).test.class_names
    assert load_split("glyphs", "val").hash == load_data("glyphs").val.hash


def test_a_class_name_in_common_sets_no_other_class_aside(tmp_path, save_image):
    """A folder of one's own in which one class of ten is called as one of the zoo's: all ten stay, to be refused."""
    for c in range(10):
        save_image(tmp_path / f"c{c}/1.png")
    train = load_data(tmp_path).train.class_names
    for known in ([train[0], "other"], load_data(tmp_path).test.class_names):
        assert len(load_split(tmp_path, "test", known=known).class_names) == 10


def test_a_class_that_is_called_train_may_have_folders_beside_its_images(tmp_path, save_image):
    for name in ("train", "car", "bus", "boat"):
        save_image(tmp_path / f"{name}/1.png")
    save_image(tmp_path / "train/day2/2.png")
    with pytest.warns(UserWarning, match=r"left out.*train/day2/2\.png"):
        data = load_data(tmp_path)
    names = sorted(data.train.class_names + data.val.class_names + data.test.class_names)
    assert names == ["boat", "bus", "car", "train"]


def test_a_picture_beside_the_classes_of_given_splits_is_left_out(tmp_path, save_image):
    for split, names in (("train", "abc"), ("val", "d"), ("test", "ef")):
        for name in names:
            save_image(tmp_path / split / name / "1.png")
    save_image(tmp_path / "train/overview.png")
    with pytest.warns(UserWarning, match=r"left out.*overview\.png$"):
        data = load_data(tmp_path)
    assert [len(part.class_names) for part in (data.train, data.val, data.test)] == [3, 1, 2]


def test_all_empty_class_folders_are_named(tmp_path, save_image):
    save_image(tmp_path / "a/x.png")
    save_image(tmp_path / "c/deep/x.png")
    (tmp_path / "b").mkdir()
    with pytest.raises(
        InputError, match=r"b: a class folder without images; so are c \(1 file left out.*c/deep/x\.png"
    ):
        class_folders(tmp_path)


def test_formats_registered_later_are_read(tmp_path, save_image, monkeypatch):
    """As a plugin of Pillow does that is imported after dfml."""
    save_image(tmp_path / "a/x.png")
    (tmp_path / "a/x.png").rename(tmp_path / "a/x.odd")
    monkeypatch.setitem(Image.EXTENSION, ".odd", "PNG")
    assert len(read_folder(tmp_path)) == 1


@pytest.mark.parametrize(("mode", "shown", "hidden"), [("RGB", (0, 0, 0), (0, 255, 0)), ("L", 0, 255)])
def test_a_colour_that_stands_for_transparency_is_not_mixed_in_when_reducing(tmp_path, mode, shown, hidden):
    picture = Image.new(mode, (400, 400), shown)
    for y in range(0, 400, 2):
        picture.paste(hidden, (0, y, 400, y + 1))
    picture.save(tmp_path / "x.png", transparency=hidden)
    image = load_image(tmp_path / "x.png", InputSpec(size=10), ground="red")
    assert image.mean((1, 2)).tolist() == pytest.approx([0.5, 0, 0], abs=0.01)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_every_mode_and_orientation_is_reduced_to_what_reading_whole_gives(tmp_path, mode, orientation):
    y, x = np.indices((320, 480)) / 480
    picture = Image.fromarray((255 * np.stack([x, y, 1 - x], -1)).astype(np.uint8))
    if mode in ("LA", "RGBA"):
        picture.putalpha(Image.fromarray((255 * (x > 0.5)).astype(np.uint8)))
    picture = picture.convert(mode)
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(path, exif=exif)
    with Image.open(path) as file:
        upright = ImageOps.exif_transpose(file).convert("RGBA")
    whole = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB")
    expected = InputSpec(size=8).fit(torch.from_numpy(np.array(whole)).permute(2, 0, 1)[None])[0]
    assert (load_image(path, InputSpec(size=8)) - expected).abs().max() < 0.02


def test_networks_fit_grey_and_colour_into_each_other():
    colour, grey = torch.rand(2, 3, 8, 8), torch.rand(2, 1, 8, 8)
    as_grey = InputSpec(channels=1, size=8, mean=(0.5,), std=(0.2,)).fit(colour)
    expected = Image.fromarray((255 * colour[0]).round().byte().permute(1, 2, 0).numpy()).convert("L")
    np.testing.assert_allclose(255 * as_grey[0, 0].numpy(), np.array(expected), atol=1.0)
    assert torch.equal(InputSpec(size=8).fit(grey), grey.expand(-1, 3, -1, -1))
    with pytest.raises(InputError, match="images with 4 channels"):
        InputSpec(size=8).fit(torch.rand(1, 4, 8, 8))


def test_pixels_are_bounded_before_they_are_decoded(tmp_path, save_image, monkeypatch):
    save_image(tmp_path / "a/x.png", (40, 40))
    monkeypatch.setenv("DFML_MOST_PIXELS", "1599")
    with pytest.raises(InputError, match=r"40 x 40 pixels.*\n.*at most 1,599"):
        read_picture(tmp_path / "a/x.png", 3)
    monkeypatch.setenv("DFML_MOST_PIXELS", "1600")
    assert read_picture(tmp_path / "a/x.png", 3).shape == (3, 40, 40)
    monkeypatch.setenv("DFML_MOST_PIXELS", "many")
    with pytest.raises(InputError, match="DFML_MOST_PIXELS=many"):
        read_picture(tmp_path / "a/x.png", 3)
    monkeypatch.delenv("DFML_MOST_PIXELS")
    Image.new("1", (13_000, 13_000)).save(tmp_path / "a/large.png")
    with pytest.raises(InputError, match="13,000 x 13,000 pixels"):
        read_picture(tmp_path / "a/large.png", 3, side=32)


def test_a_pipe_or_device_is_no_picture(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    (tmp_path / "y.png").symlink_to("/dev/zero")
    for name in ("x.png", "y.png"):
        with pytest.raises(InputError, match="no regular file"):
            read_picture(tmp_path / name, 3)


def test_a_png_whose_pixels_were_damaged_is_refused_at_its_last_byte_too(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"IEND") - 9] ^= 1  # before its length and the checksum of the pixels
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png: not a readable image"):
        read_picture(path, 3)
