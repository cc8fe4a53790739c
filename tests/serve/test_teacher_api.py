"""A server of one teacher: keys, bounds, rate, counts."""

from contextlib import suppress

import httpx2
import numpy as np
import pytest
import torch

from dfml.errors import InputError
from dfml.serve.gate import Rate
from dfml.serve.http import check_guarded, listening
from dfml.serve.teacher_api import TeacherApi
from dfml.zoo.loaders.wire import MEDIA_TYPE, About, packed
from dfml.zoo.views import BlackBox
from http_servers import server
from toys import toy_teacher

IMAGES = np.random.default_rng(1).integers(0, 256, (3, 3, 16, 16), dtype=np.uint8)


def post(made, content, **headers):
    return httpx2.post(f"{made.url}/answers", content=content, headers={"Content-Type": MEDIA_TYPE} | headers)


def test_it_answers_as_its_teacher_does_and_counts():
    with server(decimals=3) as made:
        said = post(made, packed(IMAGES)).json()
        wanted = made.teacher.answers(torch.from_numpy(IMAGES), "probabilities")
        np.testing.assert_allclose(said["probabilities"], wanted.numpy(), atol=0.00051)
        assert all(round(p, 3) == p for row in said["probabilities"] for p in row)
        info = httpx2.get(f"{made.url}/info").json()
        assert About.from_dict(info) == made.api.about
        assert info["asked"] == {"requests": 2, "images": 3, "repeated": 0, "refused": 0}


def test_the_same_request_again_is_answered_and_not_counted_again():
    with server() as made:
        assert post(made, packed(IMAGES)).content == post(made, packed(IMAGES)).content
        assert (made.api.gate.counts.images, made.api.gate.counts.repeated) == (3, 3)


def test_labels_and_the_largest_alone():
    with server(answers="labels") as made:
        assert post(made, packed(IMAGES)).json() == {
            "labels": made.teacher.answers(torch.from_numpy(IMAGES), "labels").tolist()
        }
    with server(top=2) as made:
        said = post(made, packed(IMAGES)).json()
        values, places = made.teacher.answers(torch.from_numpy(IMAGES), "probabilities").topk(2, -1)
        assert said["classes"] == places.tolist()
        np.testing.assert_allclose(said["probabilities"], values.numpy(), atol=1e-4)


def test_without_the_key_nothing_is_said():
    with server(key="sesame") as made:
        for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "sesam"}):
            assert post(made, packed(IMAGES), **headers).status_code == 401
            assert httpx2.get(f"{made.url}/info", headers=headers).status_code == 401
        assert made.api.gate.counts.images == 0
        assert post(made, packed(IMAGES), Authorization="Bearer sesame").status_code == 200
    check_guarded("0.0.0.0", "sesame")
    check_guarded("127.0.0.1", "")
    with pytest.raises(InputError, match="without a key"):
        check_guarded("0.0.0.0", "")


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"nonsense", MEDIA_TYPE, 400),
        (packed(IMAGES), "image/png", 415),
        (packed(np.zeros((5, 3, 4, 4), np.uint8)), MEDIA_TYPE, 400),
        (packed(np.zeros((1, 3, 21, 4), np.uint8)), MEDIA_TYPE, 400),
        (b"x" * 10_000, MEDIA_TYPE, 413),
    ],
)
def test_what_is_too_much_or_no_image_is_refused_with_words(content, kind, status):
    with server(max_images=4, max_side=20) as made:
        said = post(made, content, **{"Content-Type": kind})
        assert said.status_code == status
        assert said.json()["error"]
        assert post(made, packed(IMAGES)).status_code == 200
        assert (made.api.gate.counts.images, made.api.gate.counts.refused) == (3, 1)


def test_a_body_without_a_length_is_read_no_further_than_allowed():
    with server(max_images=4, max_side=20) as made:
        endless = (b"x" * 1000 for _ in range(10_000))
        with suppress(httpx2.TransportError):  # the server may close while the rest is being sent
            assert post(made, endless).status_code == 413
        assert made.api.gate.counts.refused == 1


def test_a_teacher_whose_answers_are_no_numbers_is_an_error_of_the_server():
    with server() as made:
        made.teacher.network.head.weight.data.fill_(float("nan"))
        assert post(made, packed(IMAGES)).status_code == 500


def test_too_many_requests_are_told_when_to_come_back():
    now = [0.0]
    rate = Rate(2.0, clock=lambda: now[0])
    assert [rate.wait() for _ in range(3)] == [0, 0, 0.5]
    now[0] = 0.5
    assert [rate.wait() for _ in range(2)] == [0, 0.5]
    with server(rate=0.1) as made:
        assert post(made, packed(IMAGES)).status_code == 200
        said = post(made, packed(IMAGES[:1]))
        assert said.status_code == 429
        assert 9 <= int(said.headers["Retry-After"]) <= 10


def test_what_a_teacher_cannot_give_is_not_served():
    teacher = toy_teacher()
    with pytest.raises(InputError, match="probabilities of toy"):
        TeacherApi(BlackBox(teacher, "labels"))
    for options in ({"top": 4}, {"top": 0}, {"top": 1, "answers": "labels"}, {"decimals": -1}, {"rate": 0.0}):
        with pytest.raises(InputError):
            TeacherApi(teacher, **options)


def test_a_port_that_is_taken_is_said():
    with listening("127.0.0.1", 0) as sock, pytest.raises(InputError, match="cannot be listened at"):
        listening("127.0.0.1", sock.getsockname()[1])
