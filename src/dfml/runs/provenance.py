"""What a result was made with: the zoo, the versions of all that ran, the commit."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from dfml.zoo import Zoo
from dfml.zoo.store import EMBEDDED


def describe_zoo(zoo: Zoo) -> dict[str, Any]:
    """The zoo as results name it; an embedded one goes by its name, since its path is this installation's."""
    embedded = [name for name, path in EMBEDDED.items() if path.resolve() == Path(zoo.path).resolve()]
    return {
        "name": zoo.name,
        "path": embedded[0] if embedded else str(Path(zoo.path).resolve()),
        "hash": zoo.hash,
        "cards": zoo.cards_hash,
        "recipe": zoo.recipe_hash,
        "models": len(zoo.ids),
        "stages": [zoo.ids],
        "architectures": sorted({zoo.entry(i).architecture for i in zoo.ids}),
    }


def versions(threads: int | None = None) -> dict[str, Any]:
    """What runs: dfml, torch, Python, platform, CPU threads (None: torch's number), the commit of a checkout."""
    try:
        dfml = version("dfml")
    except PackageNotFoundError:
        dfml = "not installed"
    return {
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
