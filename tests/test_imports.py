"""Imports point one way, and the core imports with core dependencies only."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import dfml

ROOT = Path(dfml.__path__[0])
LAYERS = (
    {"announced", "bounds", "errors", "plain", "randomness", "stopping"},
    {"files"},
    {"consent"},
    {"episode", "compute", "functional"},
    {"nn"},
    {"data", "zoo"},
    {"recovery", "training", "learners"},
    {"methods"},
    {"evaluation"},
    {"recipes"},
    {"zoo_building", "runs"},
    {"report"},
    {"estimator", "export", "hub"},
    {"serve"},
    {"app"},
    {"cli"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names} | {"__main__": len(LAYERS)}
SAME_LEVEL = {  # within a level, the first may import the second
    ("zoo", "data"),
    ("functional", "compute"),
    ("training", "learners"),
    ("training", "recovery"),
    ("learners", "recovery"),
}
EXTRAS = {"gradio", "fastapi", "uvicorn", "httpx2", "ray", "huggingface_hub"}
EXTRAS |= {"onnx", "torchvision", "timm", "pickle"}
FILES = sorted(ROOT.rglob("*.py"))


def part(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Every absolute module name that the file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize(
    "path", [p for p in FILES if p != ROOT / "__init__.py"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_imports_point_one_way(path):
    own = part(path)
    assert own in LEVEL, f"{own} has no place in the order"
    for name in imported(path):
        words = name.split(".")
        if words[0] != "dfml" or len(words) < 2:
            continue
        other = words[1]
        if other not in LEVEL or other == own:
            continue
        allowed = LEVEL[other] < LEVEL[own] or (own, other) in SAME_LEVEL
        assert allowed, f"{path.relative_to(ROOT)} ({own}) imports {name} ({other})"


def test_no_two_files_import_each_other():
    """Follows every import, also inside functions, and finds the groups of files that reach each other."""
    module = {path: ".".join(path.relative_to(ROOT.parent).with_suffix("").parts) for path in FILES}
    module = {path: name.removesuffix(".__init__") for path, name in module.items()}
    known = set(module.values())
    needs = {name: (imported(path) & known) - {name} for path, name in module.items()}
    TopologicalSorter(needs).prepare()  # raises CycleError, which names the files of a ring


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_core_imports_no_extra_and_no_pickle(path):
    assert not {name.split(".")[0] for name in imported(path)} & EXTRAS


def test_importing_the_library_leaves_the_compiler_of_torch_alone():
    """It takes 70 MB, and `dfml.compute.devices.compiled` imports it when something is compiled."""
    script = "import sys, dfml.evaluation.evaluate, dfml.recovery, dfml.zoo; print('torch._dynamo' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "False"


def test_the_library_leaves_scikit_learn_alone_until_its_classifier_is_asked_for():
    script = "import sys, dfml; dfml.load; a = 'sklearn' in sys.modules; dfml.FewShotClassifier; print(a)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "False"


def test_public_names_exist():
    for name in dfml.__all__:
        assert getattr(dfml, name) is not None
    with pytest.raises(AttributeError):
        _ = dfml.nothing


def test_git_ignores_no_source_file():
    """A pattern for folders that users make (`runs/`) once hid a package of the same name."""
    root = ROOT.parents[1]
    if not (root / ".git").exists():
        pytest.skip("no checkout")
    asked = ["git", "check-ignore", "--no-index", *map(str, FILES)]
    shown = subprocess.run(asked, cwd=root, capture_output=True, text=True)
    assert shown.returncode == 1, shown.stdout + shown.stderr
