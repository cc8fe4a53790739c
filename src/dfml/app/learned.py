"""What the page shows of a run or a zoo besides its answers: curves, recovered images and a table of models."""

import threading
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from dfml.errors import InputError
from dfml.report import looks
from dfml.report.page import Picture
from dfml.runs.inspection import inspect
from dfml.runs.load import is_zoo
from dfml.runs.run import Run
from dfml.zoo import Zoo
from dfml.zoo_building.view import zoo_table


class Learned:
    """A run, or a zoo as it is.

    Args:
        source: the run's folder, or the zoo's.
        zoo: the zoo of the run, where it has moved.

    Raises:
        InputError: it is neither, or cannot be read.
    """

    def __init__(self, source: str | Path, zoo: str | None = None):
        self.run = None if is_zoo(source) else Run.open(source, zoo=zoo)
        self._source, self._drawing = source, threading.Lock()
        self._drawn: dict[tuple[str, int | None], tuple[list[str], Picture | None]] = {}

    @cached_property
    def zoo(self) -> Zoo:
        """The models.

        Raises:
            InputError: the run's zoo is not where it was.
        """
        return self.run.zoo if self.run else Zoo.open(str(self._source))

    @property
    def steps(self) -> list[int]:
        """Those after which it can be looked at; none of a zoo."""
        return looks.steps(self.run) if self.run else []

    def curves(self) -> list[Picture]:
        """Of the training."""
        return [Picture(png, "curves of the training") for png in looks.curves(self.run)] if self.run else []

    def table(self) -> tuple[str, list[str], list[tuple[str, ...]]]:
        """Title, heads and rows of a table of the models, as `dfml zoo list` shows them.

        Raises:
            InputError: see `zoo`.
        """
        table = zoo_table(self.zoo)
        columns = [[str(cell) for cell in column.cells] for column in table.columns]
        return str(table.title), [str(c.header) for c in table.columns], list(zip(*columns, strict=True))

    def shown(self, model: str, step: int | None) -> tuple[list[str], Picture | None]:
        """What a model of the zoo shows of its classes: lines about it, and a picture where one can be drawn.

        Args:
            model: its id.
            step: of a run, after which one is to look; a zoo has none.

        Raises:
            InputError: no such model or checkpoint, or it cannot be read.
        """
        with self._drawing:  # it takes seconds, and two who ask for the same get the same
            if (model, step) not in self._drawn:
                self._drawn[model, step] = self._draw(model, step)
            return self._drawn[model, step]

    def _draw(self, model: str, step: int | None) -> tuple[list[str], Picture | None]:
        if model not in self.zoo.ids:
            raise InputError(f"model {model!r}", "a model of the zoo", "choose one of the list")
        if self.run is None:
            with TemporaryDirectory() as folder:
                path = Path(folder) / "model.png"
                lines = [line for line in inspect(self.zoo, model, path) if str(path) not in line]
                return lines, Picture(path.read_bytes(), f"what {model} shows") if path.exists() else None
        if step not in self.steps:
            raise InputError(f"step {step}", "one after which a checkpoint was kept", "choose one of the list")
        png = looks.sheet(looks.as_of(self.run, step), [model])
        if png is None:
            return ["This method recovers no images."], None
        return [], Picture(png, f"what {model} shows after step {step}: a row is a class")


def opened(source: str | Path, zoo: str | None = None) -> Learned | None:
    """What there is to show of where a learner comes from; None of a learner's files alone.

    Args:
        source: a run's or a zoo's folder, or a learner's files.
        zoo: the zoo of a run, where it has moved.

    Raises:
        InputError: it cannot be read.
    """
    return Learned(source, zoo) if is_zoo(source) or (Path(source) / "config.json").is_file() else None
