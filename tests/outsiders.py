"""What an installer writes of a package that announces things to dfml; the package of docs/extend.md."""

import re
import shutil
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def announce(site: Path, name: str, groups: dict[str, dict[str, str]]) -> None:
    """What an installer writes of a package with these entry points."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    sections = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in groups.items()]
    (info / "entry_points.txt").write_text("\n".join(sections))


def install_newcomer(site: Path, more: dict[str, dict[str, str]] | None = None) -> None:
    """The examples as docs/extend.md makes a package of them, with more entry points."""
    page = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    project = tomllib.loads(re.search(r"```toml\n(.*?)```", page, re.S).group(1))
    announce(site, "newcomer", project["project"]["entry-points"] | (more or {}))
    for module in project["tool"]["setuptools"]["py-modules"]:
        shutil.copy(ROOT / "examples" / f"{module}.py", site)
