"""The public names, and where each is made: the one table of them, for type checkers and for ``__init__.py``."""

from dfml.data import DataSplits as DataSplits
from dfml.data import ImageSet as ImageSet
from dfml.data import load_data as load_data
from dfml.data import load_images as load_images
from dfml.errors import InputError as InputError
from dfml.estimator import FewShotClassifier as FewShotClassifier
from dfml.evaluation.manifest import make_manifest as make_manifest
from dfml.evaluation.score import Score as Score
from dfml.evaluation.score import paired_difference as paired_difference
from dfml.learners.learner_file import save_learner as save_learner
from dfml.learners.predictor_file import load_predictor as load_predictor
from dfml.learners.predictor_file import save_predictor as save_predictor
from dfml.learners.task_classifier import TaskClassifier as TaskClassifier
from dfml.recipes.resolving import resolve as resolve
from dfml.runs.load import load as load
from dfml.runs.progress import console_progress as console_progress
from dfml.runs.results import evaluate_run as evaluate_run
from dfml.runs.run import Run as Run
from dfml.runs.train import train as train
from dfml.zoo import Zoo as Zoo
