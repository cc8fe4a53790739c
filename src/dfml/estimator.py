"""A few-shot classifier for people who use scikit-learn and have no interest in meta-learning."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dfml.data.as_given import images_as_given
from dfml.data.pictures import GROUND
from dfml.errors import InputError, NotAtHand
from dfml.learners.base import AbstractLearner
from dfml.learners.confidence import adapt_surely
from dfml.learners.nearest import directions
from dfml.learners.nearest import nearest as most_alike
from dfml.learners.task_classifier import NONE, TaskClassifier, largest_spec
from dfml.runs.load import load
from dfml.runs.run import Run
from dfml.zoo import Zoo

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d
except ImportError as missing:
    raise NotAtHand(
        f"scikit-learn cannot be imported ({missing})",
        "it, which comes with the extra 'sklearn'",
        "in the clone of dfml: pip install -c constraints.txt -e '.[sklearn]'",
    ) from missing

NEAREST = 3  # support images that a reason names


class FewShotClassifier(ClassifierMixin, BaseEstimator):
    """Classifies images after a few examples of each class; follows scikit-learn.

    ``X`` is whatever `dfml.data.as_given.images_as_given` takes: arrays, tensors, pictures, paths, tables of paths.

    Args:
        learner: a run folder, a learner's files or a zoo, by path or opened; ``glyphs`` is the embedded zoo.
        calibrate: fit a temperature on the support, each image answered by the others, so that probabilities mean
            what they say; where every class has one image there is nothing to fit it on.
        reject: the share of images of the known classes, from 0 to below 1, that may be taken for none of them, so that
            strangers are: `predict` answers `none_` for images that look less like any class than that share of the
            support does, each of its images compared with the rest. None always answers with a class.
        ground: the colour behind transparent pixels of paths and pictures.

    Attributes:
        classes_: sorted, as in ``y``.
        none_: what `predict` answers where ``reject`` turns an image away: ``none of these``, or -1 where classes are
            numbers.
        confidence_: what the left-out images of the support say: accuracy, temperature, calibration error before and
            after (`dfml.learners.confidence.Confidence`).
        predictor_: the `torch.nn.Module` that answers.
        support_: the images, fitted to the learner's canvas, in the order in which they were given.
        support_y_: their classes, as indices of ``classes_``.

    Raises:
        NotAtHand: from the import, where scikit-learn is not installed.
    """

    classes_: np.ndarray
    support_: Tensor
    support_y_: np.ndarray

    def __init__(
        self,
        learner: str | Path | Zoo | Run | AbstractLearner = "glyphs",
        *,
        calibrate: bool = True,
        reject: float | None = None,
        ground: str = GROUND,
    ):
        self.learner = learner
        self.calibrate = calibrate
        self.reject = reject
        self.ground = ground

    def fit(self, X: Any, y: Any) -> "FewShotClassifier":
        """Adapt to images and their classes.

        Raises:
            InputError: see `images_as_given`; fewer than two classes, or a learner that cannot be read. It is a
                ValueError.
        """
        return self._fit(load(self.learner), X, y)

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> "FewShotClassifier":
        """Adapt to more images beside those of before: of the same classes, or of new ones.

        Args:
            X: the new images alone; the first call is `fit`.
            y: their classes.
            classes: not needed, for new classes may come at any time; taken because scikit-learn passes it.
        """
        return self._fit(self.learner_ if hasattr(self, "learner_") else load(self.learner), X, y, more=True)

    def _fit(self, learner: AbstractLearner, X: Any, y: Any, *, more: bool = False) -> "FewShotClassifier":
        if y is None:
            raise InputError("requires y to be passed, but the target y is None", "a class for each image", "give y")
        check_classification_targets(y)
        given = column_or_1d(y, warn=True)
        images = images_as_given(X, largest_spec(learner.networks), ground=self.ground)
        check_consistent_length(images, given)
        if more and hasattr(self, "predictor_"):
            images = torch.cat([self.support_, images])
            given = np.concatenate([self.classes_[self.support_y_], given])
        classes, numbers = np.unique(given, return_inverse=True)
        if len(classes) < 2:
            raise InputError(f"one class, {classes[0]}", "at least 2 classes", "add images of another class")
        none = np.asarray(NONE if classes.dtype.kind in "OUST" else -1)
        if self.reject is not None and none in classes:
            raise InputError(f"a class named {none} beside reject", "another name", "rename the class")
        sure = adapt_surely(
            learner, images, torch.from_numpy(numbers), calibrate=bool(self.calibrate), reject=self.reject
        )
        self.learner_, self.support_, self.support_y_ = learner, images, numbers
        self.classes_, self.none_ = classes, none[()]
        self.predictor_, self.floor_, self.confidence_ = sure.predictor, sure.floor, sure.confidence
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The class of each image, or `none_`."""
        logits = self._logits(X).numpy()
        labels = self.classes_[logits.argmax(-1)]
        if self.floor_ is None:
            return labels
        return np.where(logits.max(-1) >= self.floor_, labels, np.asarray(self.none_))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities [n, classes] among the known classes, calibrated; that it may be none of them is left aside."""
        return self._logits(X).double().softmax(-1).numpy()

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits [n, classes], divided by the temperature; of two classes [n], how far the second is ahead."""
        logits = self._logits(X).numpy()
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def explain(self, X: Any, *, nearest: int = NEAREST) -> tuple[np.ndarray, np.ndarray]:
        """The support images that each image resembles most, as a reason.

        Returns:
            Their indices [n, nearest], in the order in which they were given, and their similarities, from -1 to 1:
            the cosine of what the adapted networks see in both.
        """
        predictor = self._checked().predictor_
        shown, known = (directions(predictor, images) for images in (self._images(X), self.support_))
        index, similarity = most_alike(shown, known, nearest)
        return index.numpy(), similarity.numpy()

    def to_predictor(self) -> TaskClassifier:
        """What `dfml.save_predictor` writes, and `dfml predict` and `dfml export` take."""
        names = [str(name) for name in self._checked().classes_]
        shots = np.bincount(self.support_y_).tolist()
        return TaskClassifier(self.predictor_, names, shots=shots, floor=self.floor_)

    def _logits(self, X: Any) -> Float[Tensor, "n way"]:
        return self._checked().predictor_(self._images(X))

    def _checked(self) -> "FewShotClassifier":
        check_is_fitted(self, "predictor_")
        return self

    def _images(self, X: Any) -> Float[Tensor, "n c size size"]:
        return images_as_given(X, largest_spec(self._checked().learner_.networks), ground=self.ground)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # rows of numbers are no images, but for square grey ones
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True  # paths
        return tags
