"""The folder of a run: configuration, versions, metrics as JSON lines, checkpoints, plots and the result."""

import json
import os
import platform
import subprocess
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from dfml.errors import InputError
from dfml.files import (
    append_line,
    check_seal,
    clear_leftovers,
    finite,
    sealed,
    write_atomic,
    write_json,
    writing,
)
from dfml.lock import LOCK
from dfml.recipes.options import Config
from dfml.recipes.resolving import resolve
from dfml.runs.checkpoint import Checkpoints
from dfml.zoo import Zoo
from dfml.zoo.store import EMBEDDED

RUN_SCHEMA = 1
CHANGE = "undo the change and make it with `dfml train --resume --override --NAME VALUE`, or train anew"


class RunFolder:
    """An existing run folder; `create` and `reopen` prepare one for training.

    Args:
        path: the folder.

    Raises:
        InputError: not a run folder, or one of another schema.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.about = check_seal(self.path / "config.json", self._read("config.json"), CHANGE)
        if self.about.get("schema") != RUN_SCHEMA:
            raise InputError(
                f"{self.path}: a run folder of schema {self.about.get('schema')!r}",
                f"schema {RUN_SCHEMA}",
                "train again",
            )
        sections = self.about["config"]
        self.config = Config(self.about["recipe"], sections)
        self.checkpoints = Checkpoints(self.path / "checkpoints", self.config.run.keep_checkpoints)

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
        if path.is_dir() and any(p.name != LOCK for p in path.iterdir()):
            raise InputError(f"{path}: not empty, and not a run folder", "a new or empty folder", "change --out")
        with writing(path):
            (path / "checkpoints").mkdir(parents=True, exist_ok=True)
            (path / "plots").mkdir(exist_ok=True)
        write_json(path / "versions.json", versions(config.run.threads))
        about = {"schema": RUN_SCHEMA, "recipe": config.recipe, "recipe_hash": config.hash, "config": config.sections}
        write_json(path / "config.json", sealed(about | {"zoo": describe_zoo(zoo)}))
        return cls(path)

    @classmethod
    def reopen(cls, path: str | Path, config: Config, zoo: Zoo, *, override: bool = False) -> "RunFolder":
        """The run folder to go on with; budget and housekeeping may differ from what it was made with.

        With ``override`` other values may, too; the folder says so under ``changes``, and so does every result of it.

        Raises:
            InputError: it belongs to another configuration or zoo, or cannot be written.
        """
        folder = cls(path)
        changes = folder.changes(config)
        if differ := [d for d in folder.differences(config, zoo) if not (override and d in map(_told, changes))]:
            raise InputError(
                f"{folder.path}: belongs to another run" + "".join(f"\n  - {d}" for d in differ),
                "the configuration and the zoo that the run was started with",
                "leave out the options that differ, start anew with another --out, or add --override to go on with "
                "other hyper-parameters, of which the run then tells",
            )
        for part in (folder.path, folder.checkpoints.folder):
            clear_leftovers(part)
        about = folder.about | {"recipe_hash": config.hash, "config": config.sections}
        if changes:
            about["changes"] = [*about.get("changes", []), *changes]
        write_json(folder.path / "config.json", sealed(about))
        return cls(path)

    def differences(self, config: Config, zoo: Zoo) -> list[str]:
        """Why the run cannot be continued with this configuration and zoo, a line a reason."""
        differ = [_told(change) for change in self.changes(config)]
        there = self.about["zoo"]
        if there["hash"] != zoo.hash:
            differ.append(f"zoo: {there['name']} {there['hash'][:19]} there, {zoo.name} {zoo.hash[:19]} here")
        return differ

    def changes(self, config: Config) -> list[dict[str, Any]]:
        """Values, apart from budget and housekeeping, that another configuration has from here on."""
        old, new = self._identity(), config.identity()
        differ = [k for k in sorted(old | new) if old.get(k) != new.get(k)]
        step = self.checkpoints.newest_step()
        return [{"step": step, "key": k, "old": old.get(k), "new": new.get(k)} for k in differ]

    def _identity(self) -> dict[str, Any]:
        """Of the configuration; a hyper-parameter that dfml did not have then is at its default."""
        try:
            return resolve(self.config.sections, label=self.config.recipe).identity()
        except InputError:  # one that dfml has no more
            return self.config.identity()

    @property
    def plots(self) -> Path:
        """Where pictures go."""
        with writing(self.path / "plots"):
            (self.path / "plots").mkdir(exist_ok=True)
        return self.path / "plots"

    @property
    def threads(self) -> int:
        """The number of CPU threads that the run was started with; another number gives other bits."""
        return int(self._read("versions.json").get("threads", 1))

    def log(self, line: dict[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``; a number that is none becomes null.

        Raises:
            InputError: the disk is full, or the file cannot be written.
        """
        append_line(self.path / "metrics.jsonl", {"schema": RUN_SCHEMA} | line)

    def metrics(self) -> list[dict[str, Any]]:
        """All lines that can be read, in order; the others are named in a warning and left in the file."""
        lines = self._metrics_lines()
        if bad := [number for number, (_, line) in enumerate(lines, 1) if line is None]:
            warnings.warn(f"{self.path / 'metrics.jsonl'}: cannot read line {', '.join(map(str, bad))}", stacklevel=2)
        return [line for _, line in lines if line is not None]

    def rewind(self, step: int) -> None:
        """Forget the lines after ``step``, which will be made again; those that cannot be read stay."""
        kept = [text for text, line in self._metrics_lines() if line is None or line["step"] <= step]
        write_atomic(self.path / "metrics.jsonl", b"".join(text + b"\n" for text in kept))

    def _metrics_lines(self) -> list[tuple[bytes, dict[str, Any] | None]]:
        """Each line with what it says, None where it cannot be read. A last line that was cut short is no line."""
        path = self.path / "metrics.jsonl"
        *whole, last = path.read_bytes().split(b"\n") if path.exists() else [b""]
        lines = [(text, _metrics_line(text)) for text in [*whole, last]]
        return lines if lines[-1][1] is not None else lines[:-1]

    def write_result(self, result: dict[str, Any]) -> Path:
        """Write ``result.json``."""
        write_json(self.path / "result.json", finite(result))
        return self.path / "result.json"

    def _read(self, name: str) -> dict[str, Any]:
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.path}: not a run folder ({name}: {error})", "a folder made by `dfml train`", "correct the path"
            ) from error


def _metrics_line(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:  # no JSON, or no UTF-8
        return None
    return line if isinstance(line, dict) and isinstance(line.get("step"), int) else None


def _told(change: dict[str, Any]) -> str:
    return f"{change['key']}: {change['old']!r} there, {change['new']!r} here"


def describe_zoo(zoo: Zoo) -> dict[str, Any]:
    """The zoo as results name it; an embedded one goes by its name, since its path is this installation's."""
    embedded = [name for name, path in EMBEDDED.items() if path.resolve() == Path(zoo.path).resolve()]
    return {
        "name": zoo.name,
        "path": embedded[0] if embedded else str(Path(zoo.path).resolve()),
        "hash": zoo.hash,
        "recipe": zoo.recipe_hash,
        "models": len(zoo.ids),
        "architectures": sorted({zoo.entry(i).architecture for i in zoo.ids}),
    }


def versions(threads: int | None = None) -> dict[str, Any]:
    """What runs: dfml, torch, Python, platform, CPU threads (None: torch's number), the commit of a checkout."""
    try:
        dfml = version("dfml")
    except PackageNotFoundError:
        dfml = "not installed"
    return {
        "schema": RUN_SCHEMA,
        "dfml": dfml,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": threads or torch.get_num_threads(),
        "commit": commit(),
    }


def commit() -> str | None:
    """The commit of the checkout that tracks this file, with ``+`` when it was changed since; None outside of one."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        git(
            "ls-files", "--error-unmatch", Path(__file__).name
        )  # else this is an installation inside a stranger's checkout
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None
