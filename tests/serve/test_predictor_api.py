"""A server of a predictor: many callers at once, bad uploads among them, new predictors, and what it counts."""

from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO

import httpx2
import numpy as np
import pytest
import torch
from PIL import Image

from dfml.learners import FrozenLearner
from dfml.learners.task_classifier import TaskClassifier
from dfml.nn import Encoder, InputSpec, build_backbone
from dfml.serve.http import predictor_app, served
from dfml.serve.openapi import document
from dfml.serve.predictor_api import PredictorApi


def learner():
    torch.manual_seed(0)
    spec = InputSpec(size=16)
    return FrozenLearner(Encoder(build_backbone("conv4", image_size=16, width=4), spec).eval(), head="ridge")


def classifier():
    torch.manual_seed(1)
    return TaskClassifier(learner().adapt(torch.rand(6, 3, 16, 16), torch.arange(3).repeat(2)), ["a", "b", "c"])


def picture(seed, kind="png", size=(20, 24)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content := BytesIO(), format=kind)
    return content.getvalue()


@contextmanager
def server(**options):
    api = PredictorApi(classifier(), **options)
    with served(predictor_app(api)) as url:
        yield api, url


def test_two_hundred_at_once_get_their_own_answers_and_bad_uploads_an_error(tmp_path):
    good = [picture(seed) for seed in range(20)]
    (tmp_path / "x").mkdir()
    for number, content in enumerate(good):
        (tmp_path / "x" / f"{number:02}.png").write_bytes(content)
    wanted = classifier().predict_files(sorted((tmp_path / "x").iterdir()))
    bad = [b"", b"no image", good[0][:40], picture(0, "tiff")[:-200]]
    asked = [(i % 20, good[i % 20]) if i % 10 else (None, bad[i // 10 % 4]) for i in range(200)]
    with server() as (api, url), ThreadPoolExecutor(200) as many:
        said = list(many.map(lambda each: httpx2.post(f"{url}/predict", content=each[1], timeout=60), asked))
    for (number, _), answer in zip(asked, said, strict=True):
        if number is None:
            assert answer.status_code == 400
            assert "the image" in answer.json()["error"]
        else:
            assert answer.json()["label"] == wanted.labels[number]
            given = [answer.json()["probabilities"][name] for name in "abc"]
            np.testing.assert_allclose(given, wanted.probabilities[number].numpy(), atol=2e-5)
    assert (api.gate.counts.images, api.gate.counts.refused) == (180, 20)


def test_a_new_predictor_of_a_few_images():
    classes = {
        "first": [b64encode(picture(seed)).decode() for seed in (1, 2)],
        "second": [b64encode(picture(3)).decode()],
    }
    with server(learner=learner()) as (_, url):
        made = httpx2.post(f"{url}/adapt", json={"classes": classes}).json()
        assert made["classes"] == ["first", "second"]
        said = httpx2.post(url + made["predict"], content=picture(3)).json()
        assert said["label"] == "second"
        assert said["probabilities"].keys() == {"first", "second"}
        assert httpx2.post(f"{url}/predictors/none/predict", content=picture(3)).status_code == 404
        for wrong in (
            {},
            {"classes": {"one": classes["first"]}},
            {"classes": {"a": ["%"], "b": ["%"]}},
            {"classes": 3},
        ):
            assert httpx2.post(f"{url}/adapt", json=wrong).status_code == 400
    with server() as (_, url):
        assert httpx2.post(f"{url}/adapt", json={"classes": classes}).status_code == 404


def test_key_bounds_health_metrics_and_openapi(monkeypatch):
    monkeypatch.setenv("DFML_MOST_PIXELS", "10000")
    with server(key="sesame", max_bytes=5000) as (_, url):
        key = {"Authorization": "Bearer sesame"}
        assert httpx2.post(f"{url}/predict", content=picture(0)).status_code == 401
        assert httpx2.post(f"{url}/predict", content=picture(0), headers=key).status_code == 200
        assert httpx2.post(f"{url}/predict", content=bytes(5001), headers=key).status_code == 413
        Image.new("L", (200, 200)).save(large := BytesIO(), format="png")
        refused = httpx2.post(f"{url}/predict", content=large.getvalue(), headers=key)
        assert (refused.status_code, "200 x 200 pixels" in refused.json()["error"]) == (400, True)
        assert httpx2.get(f"{url}/health").json() == {"status": "ok", "classes": ["a", "b", "c"]}
        told = dict(line.split() for line in httpx2.get(f"{url}/metrics").text.splitlines() if line[0] != "#")
        assert (told["dfml_images_total"], told["dfml_requests_total"], told["dfml_refused_total"]) == ("1", "4", "3")
        page = httpx2.get(f"{url}/openapi.json").json()
        assert {"/predict", "/adapt", "/health", "/metrics"} < page["paths"].keys()
        assert page["paths"]["/predict"]["post"]["security"] == [{"key": []}]
        assert refused.status_code in map(int, page["paths"]["/predict"]["post"]["responses"])
    assert "security" not in document(key=False)["paths"]["/predict"]["post"]


def test_an_answer_that_fails_reaches_its_caller_and_the_next_is_answered(monkeypatch):
    with server() as (api, url):
        whole = api.main.classifier.predict

        def broken(images):
            monkeypatch.setattr(api.main.classifier, "predict", whole)
            raise RuntimeError("no memory")

        monkeypatch.setattr(api.main.classifier, "predict", broken)
        assert httpx2.post(f"{url}/predict", content=picture(0)).status_code == 500
        assert httpx2.post(f"{url}/predict", content=picture(0)).status_code == 200


@pytest.mark.parametrize("size", [(16, 16), (40, 17)])
def test_pictures_of_any_shape(size):
    with server() as (_, url):
        assert httpx2.post(f"{url}/predict", content=picture(5, "jpeg", size)).status_code == 200
