"""The classifier that follows scikit-learn."""

import pickle
from unittest import SkipTest

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("sklearn")

from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.validation import validate_data

from dfml import FewShotClassifier, load_predictor, save_learner, save_predictor
from dfml.errors import InputError
from dfml.learners import LEARNERS
from toys import toy_encoder

LEARNER = LEARNERS["ridge"](toy_encoder()).eval()
COLOURS = {"blue": (30, 30, 200), "green": (30, 200, 30), "red": (200, 30, 30)}


def shades(count: int, names=tuple(COLOURS), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """So many noisy images of each colour, [n, 16, 16, 3] uint8, and their names."""
    y = np.repeat(names, count)
    noise = np.random.default_rng(seed).normal(0, 25, (len(y), 16, 16, 3))
    return (np.array([COLOURS[name] for name in y])[:, None, None] + noise).clip(0, 255).astype(np.uint8), y


X, Y = shades(4)
NEW, NEW_Y = shades(5, seed=1)


class Pictured(TransformerMixin, BaseEstimator):
    """The tables of scikit-learn's checks as images: a row is a small grey picture, as its numbers are."""

    def fit(self, X, y=None):
        validate_data(self, X)
        return self

    def transform(self, X):
        rows = 1 / (1 + np.exp(-np.asarray(validate_data(self, X, reset=False), dtype=np.float64)))
        images = np.zeros((len(rows), 16 * 16))
        repeats = 256 // rows.shape[1] or 1
        wide = np.repeat(rows[:, :256], repeats, axis=1)
        images[:, : wide.shape[1]] = wide
        return images.reshape(-1, 16, 16)


BEHIND = make_pipeline(Pictured(), FewShotClassifier(LEARNER))
OF_PIPELINES = dict.fromkeys(
    ("check_dont_overwrite_attributes", "check_dont_overwrite_parameters", "check_estimators_overwrite_params"),
    "a Pipeline fits the steps that it was given",
)


def test_scikit_learn_checks_it_behind_what_makes_pictures_of_tables():
    """Its checks feed tables of numbers, which are no images; a Pipeline shows how they become some."""
    failed = {}
    found = list(estimator_checks_generator(BEHIND))
    for estimator, check in found:
        try:
            check(estimator)
        except SkipTest:
            pass
        except Exception as error:
            failed[check.func.__name__] = error
    assert len(found) >= 50
    assert set(failed) <= set(OF_PIPELINES), failed


def test_images_of_all_kinds_get_the_same_answers(tmp_path):
    pandas = pytest.importorskip("pandas")
    model = FewShotClassifier(LEARNER).fit(X, Y)
    paths = [tmp_path / f"{i}.png" for i in range(len(NEW))]
    pictures = [Image.fromarray(image) for image in NEW]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    floats = np.moveaxis(NEW, -1, 1) / np.float32(255)
    names = [str(path) for path in paths]
    wanted = model.predict_proba(NEW)
    assert model.score(NEW, NEW_Y) > 0.8
    for given in (floats, torch.from_numpy(floats), torch.from_numpy(NEW), pictures, paths, names, list(NEW)):
        np.testing.assert_allclose(model.predict_proba(given), wanted, atol=1e-5)
    for given in (np.array(names), pandas.Series(names), pandas.DataFrame({"file": names}), pandas.Series(pictures)):
        np.testing.assert_allclose(model.predict_proba(given), wanted, atol=1e-5)
    grey = NEW.mean(-1).astype(np.uint8)
    np.testing.assert_allclose(model.predict_proba(grey.reshape(len(grey), -1)), model.predict_proba(grey), atol=1e-6)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((2, 7)), "an array of shape"),
        (NEW.astype(float), "divide them by 255"),
        (np.zeros((0, 16, 16, 3)), "0 images"),
        ([], "0 images"),
        ("image.png", "put it in a list"),
        (["missing.png"], "no such file"),
        ([{"a": 1}], "an entry of type dict"),
        (np.zeros((2, 16, 16), complex), "complex"),
    ],
)
def test_what_is_no_image_is_said(given, said):
    with pytest.raises(InputError, match=said):
        FewShotClassifier(LEARNER).fit(X, Y).predict(given)


def test_later_images_and_classes_count_as_if_they_had_been_there():
    first, later = Y != "red", Y == "red"
    model = FewShotClassifier(LEARNER).fit(X[first], Y[first])
    assert list(model.classes_) == ["blue", "green"]
    assert list(model.partial_fit(X[later], Y[later]).classes_) == ["blue", "green", "red"]
    np.testing.assert_allclose(model.predict_proba(NEW), FewShotClassifier(LEARNER).fit(X, Y).predict_proba(NEW))
    with pytest.raises(InputError, match="one class, red"):
        FewShotClassifier(LEARNER).partial_fit(X[later], Y[later])


def test_strangers_are_none_of_these_and_reasons_are_the_nearest_images():
    model = FewShotClassifier(LEARNER, reject=0.4).fit(X[:8], Y[:8])
    strangers = NEW[10:]
    assert set(model.predict(strangers)) == {"none of these"}
    assert list(model.predict(NEW[:10])) == list(NEW_Y[:10])
    numbers = FewShotClassifier(LEARNER, reject=0.4).fit(X[:8], (Y[:8] == "blue").astype(int))
    assert set(numbers.predict(strangers)) == {-1}
    assert set(FewShotClassifier(LEARNER).fit(X[:8], Y[:8]).predict(strangers)) <= {"blue", "green"}
    index, similarity = model.explain(X[5:7], nearest=2)
    assert index[:, 0].tolist() == [5, 6]
    np.testing.assert_allclose(similarity[:, 0], 1, atol=1e-5)
    assert (similarity[:, 0] >= similarity[:, 1]).all()


@pytest.mark.parametrize(
    ("options", "y", "said"),
    [
        ({"reject": 0.1}, Y[:8:4], "two images of a class"),
        ({"reject": 1.5}, Y[:8:4], "reject 1.5"),
        ({"reject": 0.1}, ["none of these", "b"], "none of these"),
    ],
)
def test_a_share_that_cannot_be_found_is_said(options, y, said):
    with pytest.raises(InputError, match=said):
        FewShotClassifier(LEARNER, **options).fit(X[:8:4], y)


def test_it_is_cloned_pickled_searched_calibrated_and_shipped(tmp_path):
    save_learner(LEARNER, tmp_path / "learner")
    model = FewShotClassifier(str(tmp_path / "learner.json"))
    assert clone(model.set_params(reject=0.2)).get_params() == model.get_params()
    model.fit(X, Y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(NEW), model.predict(NEW))
    flipped = make_pipeline(FunctionTransformer(lambda images: images[:, :, ::-1].copy()), FewShotClassifier(LEARNER))
    assert cross_val_score(flipped, NEW, NEW_Y, cv=2).mean() > 0.8
    search = GridSearchCV(FewShotClassifier(LEARNER), {"calibrate": [True, False]}, cv=2).fit(list(NEW), NEW_Y)
    assert search.best_score_ > 0.8
    calibrated = CalibratedClassifierCV(FewShotClassifier(LEARNER), cv=2).fit(NEW, NEW_Y)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(-1), 1)
    save_predictor(model.to_predictor(), tmp_path)
    images = torch.from_numpy(NEW).permute(0, 3, 1, 2)
    np.testing.assert_allclose(
        load_predictor(tmp_path).predict(images).probabilities, model.predict_proba(NEW), atol=1e-5
    )
