"""What travels between a model's server and its callers."""

from io import BytesIO

import numpy as np
import pytest

from dfml.zoo.loaders.wire import About, Malformed, largest_request, packed, read_answers, unpacked

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 3, 5, 7), dtype=np.uint8)


def about(**changes) -> About:
    values = {"id": "m", "model": "", "classes": ("a", "b", "c", "d"), "channels": 3, "height": 5, "width": 7}
    return About(**values | {"answers": "probabilities", "top": None, "decimals": 3} | changes)


def test_images_arrive_as_they_were_sent_from_any_writer_of_npy():
    assert np.array_equal(unpacked(packed(IMAGES), most=3, side=7), IMAGES)
    assert np.array_equal(unpacked(packed(IMAGES[:, :, :, ::-1]), most=3, side=7), IMAGES[:, :, :, ::-1])
    assert len(packed(IMAGES)) <= largest_request(3, 7)
    second = BytesIO()
    np.lib.format.write_array(second, IMAGES, version=(2, 0))
    assert np.array_equal(unpacked(second.getvalue(), most=3, side=7), IMAGES)


def saved(array) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no array"),
        (b"\x89PNG....", "no array"),
        (saved(IMAGES)[:40], "no array"),
        (saved(IMAGES)[:-1], "bytes of pixels"),
        (saved(IMAGES) + b"x", "bytes of pixels"),
        (saved(IMAGES.astype(np.float32)), "float32"),
        (saved(np.array([{"a": 1}])), "object"),
        (saved(np.asfortranarray(IMAGES)), "not of uint8"),
        (saved(IMAGES[0]), "shape"),
        (saved(IMAGES[:0]), "not 1 to 3"),
        (saved(np.zeros((4, 3, 2, 2), np.uint8)), "not 1 to 3"),
        (saved(np.zeros((1, 3, 8, 2), np.uint8)), "7 pixels at most"),
        (saved(np.zeros((1, 2, 2, 2), np.uint8)), "1 or 3 channels"),
        (saved(IMAGES).replace(b"(3, 3, 5, 7)", b"(9999999999,"), "no array"),
    ],
)
def test_what_is_no_request_is_refused(content, said):
    with pytest.raises(Malformed, match=said):
        unpacked(content, most=3, side=7)


def test_a_shape_that_the_content_does_not_hold_allocates_nothing():
    header = BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (2**20, 3, 2**12, 2**12)}
    )
    with pytest.raises(Malformed, match="bytes of pixels"):
        unpacked(header.getvalue(), most=2**30, side=2**20)


def test_what_a_server_says_of_itself_is_checked():
    values = about().to_dict()
    assert About.from_dict(values | {"more": 1}) == about()
    assert About.from_bytes(about().to_bytes()) == about()
    wrong = {"schema": 2, "classes": ["a"], "id": 3, "channels": 0, "height": "5", "answers": "logits", "top": 9}
    for key, value in (wrong | {"decimals": True, "width": 10**6}).items():
        with pytest.raises(Malformed):
            About.from_dict(values | {key: value})
    for nothing in (None, [], "x", {}):
        with pytest.raises(Malformed):
            About.from_dict(nothing)


def test_probabilities_are_read_and_made_to_sum_to_one():
    said = {"probabilities": [[0.7, 0.2, 0.099, 0.0], [0.25, 0.25, 0.25, 0.25]]}
    rows = read_answers(said, about(), 2)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [[0.7, 0.2, 0.099, 0.001], [0.25] * 4], atol=1e-6)


def test_the_largest_alone_leave_the_rest_to_the_others():
    said = {"classes": [[2, 0], [3, 1]], "probabilities": [[0.6, 0.3], [1.0, 0.0]]}
    rows = read_answers(said, about(top=2), 2)
    np.testing.assert_allclose(rows, [[0.3, 0.05, 0.6, 0.05], [1 / 6e3, 1 / 6e3, 1 / 6e3, 1]], atol=1e-3)
    assert rows.min() > 0  # what was rounded to nothing is not impossible


@pytest.mark.parametrize(
    ("values", "changes"),
    [
        ([], {}),
        ({}, {}),
        ({"labels": [0, 1]}, {}),
        ({"probabilities": [[0.5, 0.5, 0, 0]]}, {}),
        ({"probabilities": [[0.5, 0.5], [1, 0, 0, 0]]}, {}),
        ({"probabilities": [["1", "0", "0", "0"]] * 2}, {}),
        ({"probabilities": [[True, False, False, False]] * 2}, {}),
        ({"probabilities": [[None] * 4] * 2}, {}),
        ({"probabilities": [[float("nan")] * 4] * 2}, {}),
        ({"probabilities": [[float("inf"), 0, 0, 0]] * 2}, {}),
        ({"probabilities": [[0.5, 0.6, -0.1, 0]] * 2}, {}),
        ({"probabilities": [[0.5, 0.6, 0.1, 0]] * 2}, {}),
        ({"probabilities": [[0.2, 0.2, 0.1, 0]] * 2}, {}),
        ({"probabilities": [[0.5, 0.3]] * 2}, {"top": 2}),
        ({"probabilities": [[0.5, 0.3]] * 2, "classes": [[1, 1]] * 2}, {"top": 2}),
        ({"probabilities": [[0.5, 0.3]] * 2, "classes": [[1, 4]] * 2}, {"top": 2}),
        ({"probabilities": [[0.5, 0.3]] * 2, "classes": [[1, 2.5]] * 2}, {"top": 2}),
        ({"labels": [0, 4]}, {"answers": "labels"}),
        ({"labels": [0, -1]}, {"answers": "labels"}),
        ({"labels": [0.0, 1.0]}, {"answers": "labels"}),
        ({"labels": [0, 10**30]}, {"answers": "labels"}),
        ({"labels": [[0], [1]]}, {"answers": "labels"}),
    ],
)
def test_what_is_no_answer_is_refused(values, changes):
    with pytest.raises(Malformed):
        read_answers(values, about(**changes), 2)
