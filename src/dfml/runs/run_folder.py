"""The folder of a run: configuration, versions, metrics as JSON lines, checkpoints, plots and the result."""

import re
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dfml.errors import InputError
from dfml.files import (
    append_line,
    clear_leftovers,
    parse_json,
    read_json,
    sealed,
    to_json,
    unsealed,
    without_nan,
    write_atomic,
    write_folder,
    writing,
)
from dfml.recipes.options import Config, Sections
from dfml.recipes.resolving import resolve
from dfml.recipes.upgrade import upgraded
from dfml.runs.checkpoint import Checkpoints
from dfml.runs.growing import Stages, joined
from dfml.runs.provenance import describe_zoo, versions
from dfml.zoo import Zoo

RUN_SCHEMA = 1
BUDGETS = ("steps", "minutes")
COPY = "copy it again, or train anew"
RESTORE = "undo the change; a wanted one is given to `dfml train --resume --override`, which notes it"


class RunFolder:
    """An existing run folder; `create` and `reopen` prepare one for training.

    Args:
        path: the folder.

    Raises:
        InputError: not a run folder, or one of another schema.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.about = unsealed(self._read("config.json"), self.path / "config.json", RESTORE)
        if self.about.get("schema") != RUN_SCHEMA:
            raise InputError(
                f"{self.path}: a run folder of schema {self.about.get('schema')!r}",
                f"schema {RUN_SCHEMA}",
                "train again",
            )
        if missing := [key for key in ("recipe", "config", "zoo") if key not in self.about]:
            raise InputError(
                f"{self.path / 'config.json'}: no {missing[0]!r} in it", "config.json as dfml wrote it", RESTORE
            )
        self.config = Config(self.about["recipe"], self._sections())
        self.checkpoints = Checkpoints(self.path / "checkpoints", self.config.run.keep_checkpoints)

    def _sections(self) -> Sections:
        try:
            return upgraded(self.about["config"])
        except InputError as error:
            made_by = self.versions
            version = f"dfml {made_by.get('dfml')} at commit {made_by.get('commit')}"
            raise InputError(
                f"{self.path}: trained by {version} with {error.given}",
                error.wanted,
                error.do,
            ) from error
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(
                f"{self.path / 'config.json'}: not the configuration of a run ({type(error).__name__}: {error})",
                "config.json as dfml wrote it",
                COPY,
            ) from error

    @classmethod
    def create(cls, path: str | Path, config: Config, zoo: Zoo) -> "RunFolder":
        """A new run folder.

        Raises:
            InputError: it holds a run already, holds other things, or cannot be written.
        """
        path = Path(path)
        if (path / "config.json").exists():
            raise InputError(
                f"{path}: holds a run already", "a new folder, or --resume", "add --resume or change --out"
            )
        about = {"schema": RUN_SCHEMA, "recipe": config.recipe}
        about |= {"recipe_hash": config.hash, "config": config.sections, "zoo": describe_zoo(zoo)}
        made_with = {"schema": RUN_SCHEMA} | versions(config.run.threads)
        parts: dict[str, Callable[[Path], object]] = {
            "checkpoints": partial(Path.mkdir, exist_ok=True),
            "plots": partial(Path.mkdir, exist_ok=True),
            "versions.json": partial(write_atomic, content=to_json(sealed(made_with))),
            "config.json": partial(write_atomic, content=to_json(sealed(about))),
        }
        try:
            cls._write(path, parts)
        except InputError as error:
            raise InputError(error.given, error.wanted, "change --out, or make room there") from error
        return cls(path)

    @staticmethod
    def _write(path: Path, parts: Mapping[str, Callable[[Path], object]]) -> None:
        """A new folder appears whole. One that is there is filled in place, for a mount cannot be renamed."""
        if not path.is_dir():
            write_folder(path, parts)
            return
        begun = {*parts, ".lock"}  # by a process that was killed: without config.json, which comes last, it is no run
        if any(p.name not in begun and not p.name.endswith(".tmp") for p in path.iterdir()) or any(path.glob("*/*")):
            raise InputError(f"{path}: not empty, and not a run folder", "a new or empty folder", "change --out")
        for name, write in parts.items():
            with writing(path / name):
                write(path / name)

    @classmethod
    def reopen(cls, path: str | Path, config: Config, zoo: Zoo, *, override: bool = False) -> "RunFolder":
        """The run folder to go on with; budget and housekeeping may differ from what it was made with.

        Args:
            path: the folder.
            config: what the run goes on with.
            zoo: of the run.
            override: go on though the configuration differs; the change is noted in config.json.

        Raises:
            InputError: it belongs to another configuration or zoo, or cannot be written.
        """
        folder = cls(path)
        if differ := folder.other_zoo(zoo) if override else folder.differences(config, zoo):
            raise InputError(
                f"{folder.path}: belongs to another run" + "".join(f"\n  - {d}" for d in differ),
                "the configuration and the zoo that the run was started with",
                "leave out the options that differ, add --override to change them, or start anew with another --out",
            )
        for part in (folder.path, folder.checkpoints.folder):
            clear_leftovers(part)
        changes = folder.changes(config) + folder.longer(config)
        noted = [{"after": folder.step, "key": key, "old": old, "new": new} for key, old, new in changes]
        about = folder.about | {"recipe_hash": config.hash, "config": config.sections}
        if more := joined(zoo, there := folder.about["zoo"]):
            about["zoo"] = describe_zoo(zoo) | {"stages": [*there["stages"], more]}
            noted.append({"after": folder.step, "key": "zoo", "old": there["hash"], "new": zoo.hash})
        if noted:
            about["changes"] = [*folder.about.get("changes", []), *noted]
        write_atomic(folder.path / "config.json", to_json(sealed(about)))
        return cls(path)

    def differences(self, config: Config, zoo: Zoo) -> list[str]:
        """Why the run cannot be continued with this configuration and zoo, a line a reason."""
        return [f"{k}: {a!r} there, {b!r} here" for k, a, b in self.changes(config)] + self.other_zoo(zoo)

    def changes(self, config: Config) -> list[tuple[str, Any, Any]]:
        """Hyper-parameters in which a configuration differs from the run's: name, value there, value here.

        What is left open here was found out there (`dfml.runs.mirroring`).
        """
        old, new = self.identity(), config.identity()
        open_here = {k for k, value in new.items() if value is None and k.endswith(".flip")}
        return [(k, old.get(k), new.get(k)) for k in sorted((old | new).keys() - open_here) if old.get(k) != new.get(k)]

    def longer(self, config: Config) -> list[tuple[str, Any, Any]]:
        """The budgets in which it differs, as `changes`: they may, but what a step does depends on them."""
        pairs = [(f"run.{key}", getattr(self.config.run, key), getattr(config.run, key)) for key in BUDGETS]
        return [(key, old, new) for key, old, new in pairs if old != new]

    def other_zoo(self, zoo: Zoo) -> list[str]:
        """Whether this is another zoo than that of the run, in words; one that models have joined is none."""
        there = self.about["zoo"]
        if joined(zoo, there):
            return []
        if there["hash"] != zoo.hash:
            return [f"zoo: {there['name']} {there['hash'][:19]} there, {zoo.name} {zoo.hash[:19]} here"]
        if None not in (there.get("cards"), zoo.cards_hash) and there["cards"] != zoo.cards_hash:
            return [f"zoo: the cards of {zoo.name} say something else than when the run was started"]
        return []

    @property
    def stages(self) -> Stages:
        """The models that the run began with, and those that joined its zoo; empty in a run by an older dfml."""
        return self.about["zoo"].get("stages", [])

    @property
    def step(self) -> int:
        """Finished steps at the newest checkpoint, by its name."""
        return max(self.checkpoints.steps(), default=0)

    def identity(self) -> dict[str, Any]:
        """See `Config.identity`; a hyper-parameter that dfml did not have then is at its default."""
        try:
            return resolve(self.config.sections, label=self.config.recipe).identity()
        except InputError:  # one that dfml has no more
            return self.config.identity()

    @property
    def plots(self) -> Path:
        """Where pictures go."""
        (self.path / "plots").mkdir(exist_ok=True)
        return self.path / "plots"

    @property
    def threads(self) -> int:
        """The number of CPU threads that the run was started with; another number gives other bits."""
        threads = self.versions.get("threads", 1)
        if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
            where = self.path / "versions.json"
            raise InputError(f"{where}: threads is {threads!r}", "a number of CPU threads", COPY)
        return threads

    @property
    def versions(self) -> dict[str, Any]:
        """What the run was started with; see `versions`."""
        return unsealed(self._read("versions.json"), self.path / "versions.json", COPY)

    def log(self, line: dict[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``."""
        append_line(self.path / "metrics.jsonl", sealed(without_nan({"schema": RUN_SCHEMA} | line)))

    def metrics(self) -> list[dict[str, Any]]:
        """All lines that can be read, in order; the others are named in a warning and left in the file."""
        lines = self._metrics_lines()
        if bad := [number for number, (_, line) in enumerate(lines, 1) if line is None]:
            warnings.warn(f"{self.path / 'metrics.jsonl'}: cannot read line {', '.join(map(str, bad))}", stacklevel=2)
        return [line for _, line in lines if line is not None]

    def rewind(self, step: int) -> None:
        """Forget the lines after ``step``, which will be made again; those that cannot be read stay.

        But not a last one that was cut short, as by a kill.
        """
        lines = [(text, line) for text, line in self._metrics_lines() if line is not None or text.endswith(b"\n")]
        kept = [text.removesuffix(b"\n") for text, line in lines if line is None or line["step"] <= step]
        write_atomic(self.path / "metrics.jsonl", b"".join(text + b"\n" for text in kept))

    def _metrics_lines(self) -> list[tuple[bytes, dict[str, Any] | None]]:
        """Each line, line break and all, with what it says; None where it cannot be read."""
        path = self.path / "metrics.jsonl"
        content = path.read_bytes() if path.exists() else b""
        return [(text, _metrics_line(text)) for text in re.findall(rb"[^\n]*\n|[^\n]+", content)]

    def write_result(self, result: dict[str, Any]) -> Path:
        """Write ``result.json``."""
        values = parse_json(to_json(result))  # as they are read, so that the seal fits
        write_atomic(self.path / "result.json", to_json(sealed(values)))
        return self.path / "result.json"

    def _read(self, name: str) -> dict[str, Any]:
        try:
            values = read_json(self.path / name)
            if not isinstance(values, dict):
                raise ValueError(f"a JSON {type(values).__name__}")
            return values
        except (OSError, ValueError) as error:
            if not self.path.exists():
                raise InputError(f"{self.path}: no such folder", "the folder of a run", "check the path") from error
            raise InputError(
                f"{self.path}: not a run folder ({name}: {error})", "a folder made by `dfml train`", "correct the path"
            ) from error


def _metrics_line(text: bytes) -> dict[str, Any] | None:
    try:
        line = parse_json(text)
        line = unsealed(line, Path("metrics.jsonl"), "") if isinstance(line, dict) else line
    except ValueError:  # no JSON, no UTF-8, or not as it was written
        return None
    if not isinstance(line, dict) or not isinstance(line.get("step"), int) or isinstance(line["step"], bool):
        return None
    sound = all(value is None or isinstance(value, int | float | dict) for value in line.values())
    return line if sound else None
