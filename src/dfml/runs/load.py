"""One door to whatever adapts: the files of a learner, a run, or a zoo as it is."""

from pathlib import Path

from dfml.errors import InputError
from dfml.learners.base import AbstractLearner
from dfml.learners.learner_file import has_learner, load_learner
from dfml.methods.zoo_ensemble import ZooEnsemble
from dfml.randomness import Rng
from dfml.runs.run import Run
from dfml.runs.untrained import usual_ways
from dfml.zoo import Zoo
from dfml.zoo.index import INDEX
from dfml.zoo.store import EMBEDDED


def is_zoo(path: str | Path) -> bool:
    """Whether a path, or the name of an embedded zoo, is one."""
    return (Path(path) / INDEX).is_file() or (str(path) in EMBEDDED and not Path(path).exists())


def load(source: str | Path | Zoo | Run | AbstractLearner) -> AbstractLearner:
    """A learner: ``load("runs/mine").adapt(images, labels)`` is a predictor, a `torch.nn.Module` that gives logits.

    Args:
        source: a run folder, a learner's files or a zoo, by path or opened. Of a zoo, which is not trained, all
            networks look at every image, and ridge regression tells classes apart by their answers (by their features,
            where its models know more than a hundred classes).

    Raises:
        InputError: nothing of these is there, or it cannot be read.
    """
    if isinstance(source, AbstractLearner):
        return source
    if isinstance(source, Run):
        return source.learner
    if isinstance(source, Zoo) or is_zoo(source):
        zoo = source if isinstance(source, Zoo) else Zoo.open(str(source))
        return ZooEnsemble(compare=usual_ways(zoo)[0], head="ridge").init(zoo, Rng(0)).learner
    return trained(source)


def trained(source: str | Path, zoo: str | None = None) -> AbstractLearner:
    """The learner of a run, or of the files that a run leaves.

    Args:
        source: their path.
        zoo: of a run by an older dfml, which left no learner, where the zoo has moved.

    Raises:
        InputError: neither is there, or it cannot be read.
    """
    if has_learner(source):
        return load_learner(source)
    if not Path(source).exists():
        raise InputError(
            f"{source}: no such file or folder",
            "a run, a learner's files, or a zoo (`glyphs` is embedded)",
            "check the path",
        )
    return Run.open(source, zoo=zoo).learner
