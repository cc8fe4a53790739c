"""Nothing in the library unpickles, evaluates or starts what a file says, but where consent is asked for."""

import ast
from pathlib import Path

import dfml

SOURCE = Path(dfml.__file__).parent
FORBIDDEN_MODULES = {
    "cloudpickle", "code", "dill", "joblib", "marshal", "pickle", "pty", "runpy", "shelve", "subprocess", "yaml",
}  # fmt: skip
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "importlib.import_module", "import_module",
    "torch.load", "torch.jit.load", "torch.export.load", "torch.hub.load", "pickle.load", "pickle.loads", "np.load",
}  # fmt: skip
ALLOWED = {
    ("runs/provenance.py", "subprocess"): "git, with fixed words, for the commit of a checkout",
    ("__init__.py", "import_module"): "public names, from a table of the package",
    ("compute/ray_executor.py", "import_module"): "ray",
    ("compute/local.py", "torch.load"): "what another process of the same command packed",
    ("nn/foreign/base.py", "importlib.import_module"): "a library, by a name in the code",
    ("nn/foreign/python.py", "importlib.import_module"): "behind consent: an import path",
    ("nn/foreign/exported.py", "torch.export.load"): "behind consent: a .pt2 file",
    ("zoo/given.py", "torch.load"): "behind --trust: a pickled module",
    ("export/writing.py", "torch.export.load"): "a program that was just made",
    ("data/glyphs.py", "np.load"): "of the package",
}
"""Where it is done all the same, and why it is no stranger's."""


def found_in(path: Path) -> set[tuple[str, str]]:
    """The forbidden names that a file uses."""
    name, found = path.relative_to(SOURCE).as_posix(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names} & FORBIDDEN_MODULES
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.module or "").split(".")[0]} & FORBIDDEN_MODULES
        elif isinstance(node, ast.Call) and (called := ast.unparse(node.func)) in FORBIDDEN_CALLS:
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if given.get("weights_only") != "True" and given.get("allow_pickle") != "False":
                found.add(called)
    return {(name, what) for what in found}


def test_nothing_unpickles_or_evaluates_but_behind_consent():
    found = set().union(*(found_in(path) for path in SOURCE.rglob("*.py")))
    assert found == set(ALLOWED), found ^ set(ALLOWED)


def test_no_call_lets_numpy_unpickle_or_transformers_run_code_of_the_hub():
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "trust_remote_code"):
                assert ast.unparse(node.value) == "False", path
