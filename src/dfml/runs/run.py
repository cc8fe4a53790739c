"""A finished run: its learner, its pictures, and the classifiers that it adapts to new tasks."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from dfml.errors import InputError
from dfml.learners.base import AbstractLearner
from dfml.learners.learner_file import has_learner, load_learner
from dfml.learners.predictor_file import adapt_to_folder
from dfml.learners.task_classifier import TaskClassifier
from dfml.methods.base import AbstractMethod, AbstractState
from dfml.randomness import Rng
from dfml.recovery import Recovered
from dfml.runs.checkpoint import load_tree, restore
from dfml.runs.growing import initial_state
from dfml.runs.plots import Sheet, contact_sheet, sheet_of
from dfml.runs.run_folder import RunFolder
from dfml.zoo import Zoo

OVERVIEW = 4  # teachers in the picture of several


class Run:
    """A run folder with a checkpoint, opened lazily.

    Args:
        folder: the run folder.
        zoo: the zoo that it was trained on; None opens the one that the folder names.
        checkpoint: the folder of one of its checkpoints, to be read in the place of the newest.
    """

    def __init__(self, folder: RunFolder, zoo: Zoo | None = None, *, checkpoint: Path | None = None):
        self.folder, self._zoo, self._checkpoint = folder, zoo, checkpoint

    @staticmethod
    def open(path: str | Path, *, zoo: Zoo | str | Path | None = None) -> "Run":
        """Open a run folder; ``zoo`` where it has moved since.

        Raises:
            InputError: not a run folder.
        """
        return Run(RunFolder(path), Zoo.open(zoo) if isinstance(zoo, str | Path) else zoo)

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.folder.path

    @cached_property
    def zoo(self) -> Zoo:
        """The zoo of the run.

        Raises:
            InputError: it is not where it was, or is another one now.
        """
        about = self.folder.about["zoo"]
        options, zoo = self.folder.config.run, self._zoo or Zoo.open(about["path"])
        zoo = zoo.set_up(canvas_size=options.canvas, cache_bytes=None).as_black_boxes(options.told or zoo.told)
        if differ := self.folder.other_zoo(zoo):
            raise InputError(
                f"zoo {zoo.name} at {zoo.path}: {differ[0]}",
                f"the zoo of the run {self.path}",
                "name the zoo that the run was trained on",
            )
        return zoo

    @cached_property
    def method(self) -> AbstractMethod[Any]:
        """The method, built from the run's configuration."""
        return self.folder.config.build()

    @cached_property
    def checkpoint(self) -> dict[str, Any]:
        """The newest sound checkpoint.

        Raises:
            InputError: there is none, or all are damaged.
        """
        saved = load_tree(self._checkpoint) if self._checkpoint else self.folder.checkpoints.latest()
        if saved is None:
            raise InputError(
                f"{self.path}: no checkpoint yet", "a run that was trained", f"dfml train --out {self.path} --resume"
            )
        return saved

    @cached_property
    def state(self) -> AbstractState:
        """The method's state at the checkpoint."""
        saved = self.checkpoint
        stages = self.folder.stages[: saved.get("stages", 1)]
        state = initial_state(self.method, self.zoo, stages, Rng(self.folder.config.run.seed).at("init"))
        restore(state, saved, self.path)
        return state

    @cached_property
    def learner(self) -> AbstractLearner:
        """The learner: what the whole run was for. Its own files are read where the run left some."""
        if self._checkpoint is None and has_learner(self.path):
            return load_learner(self.path)
        return self.method.learner(self.state)

    def adapt(self, support: str | Path) -> TaskClassifier:
        """See `dfml.learners.predictor_file.adapt_to_folder`."""
        return adapt_to_folder(self.learner, support)

    def recover(self, out: str | Path | None = None, *, teachers: Sequence[str] | None = None) -> list[Path]:
        """Contact sheets of recovered images: one per teacher, and ``overview.png`` of up to four,
        which says of how many.

        Args:
            out: a folder; None is ``plots/recovered`` of the run.
            teachers: ids; None is all of them.

        Raises:
            InputError: the method recovers no images, an unknown teacher, or a folder that cannot be written.
        """
        folder = Path(out) if out is not None else self.folder.plots / "recovered"
        wanted = list(teachers) if teachers else list(self.zoo.ids)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{folder}: cannot be written ({error})", "a folder to write to", "change --out"
            ) from error
        paths: list[Path] = []
        overview: list[Sheet] = []
        for name in wanted:
            sheet = self._sheet(name)
            paths.append(contact_sheet([sheet], folder / f"{name}.png"))
            overview += [sheet] if len(overview) < OVERVIEW else []
        title = f"{len(overview)} of {len(self.zoo)} teachers" if len(overview) < len(self.zoo) else ""
        return [*paths, contact_sheet(overview, folder / "overview.png", columns=8, title=title)]

    def recovered(self, name: str) -> list[Recovered]:
        """What the method shows of a teacher's classes now; nothing where it recovers none."""
        rng = Rng(self.folder.config.run.seed).at("sheet", name)
        return self.method.recovered_sheet(self.state, [self.zoo.teacher(name)], rng)

    def _sheet(self, name: str) -> Sheet:
        recovered = self.recovered(name)
        if not recovered:
            kind = self.folder.config.sections["method"]["name"]
            raise InputError(
                f"{self.path}: method {kind} recovers no images",
                "a run of a method that does",
                "train with the recipe best or free",
            )
        return sheet_of(name, recovered[0], self.zoo.cards[name].class_names)
