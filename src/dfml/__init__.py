"""Data-free meta-learning: from a zoo of pre-trained classifiers, without their data, to a few-shot learner.

from dfml import Zoo, train

run = train(Zoo.open("glyphs"), out="run", minutes=2)
classifier = run.adapt("support")  # a folder with a folder of a few images per class
print(classifier.predict_files(["unknown.png"]).labels)

The public names stand in ``__init__.pyi``, once; each is imported at its first use, so that ``dfml --help`` need not
wait for torch.
"""

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
_HOMES = {
    name.asname: (node.module, name.name)
    for node in _STUB.body
    if isinstance(node, ast.ImportFrom)
    for name in node.names
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dfml' has no attribute {name!r}")
    module, there = _HOMES[name]
    return getattr(import_module(str(module)), there)


def __dir__() -> list[str]:
    return __all__
