"""requirements.lock has a hash for everything, and agrees with constraints.txt and pyproject.toml."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"^([\w.-]+)==([\w.+-]+)", re.M)


def plain(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def pins(file: str) -> dict[str, str]:
    return {plain(name): version for name, version in PIN.findall((ROOT / file).read_text(encoding="utf-8"))}


def test_every_entry_of_the_lock_has_hashes():
    entries = re.split(r"^(?=\S)", (ROOT / "requirements.lock").read_text(encoding="utf-8"), flags=re.M)[1:]
    assert len(entries) > 60
    assert not [e for e in entries if not PIN.match(e) or not re.search(r"--hash=sha256:[0-9a-f]{64}", e)]


def test_the_lock_is_what_is_tested_and_lacks_nothing():
    locked, tested = pins("requirements.lock"), pins("constraints.txt")
    both = locked.keys() & tested.keys()
    assert {name: locked[name] for name in both} == {name: tested[name] for name in both}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    extras = [line for name in ("app", "http", "hub", "sklearn", "tensorboard") for line in optional[name]]
    needed = {plain(re.match(r"[\w-]+", line)[0]) for line in [*project["dependencies"], *extras]}
    assert not needed - locked.keys()
