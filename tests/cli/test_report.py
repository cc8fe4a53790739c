"""A page about a run: whole in one file, with everything that was asked for."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dfml.cli import main
from dfml.data import load_data
from dfml.data.folders import write_folder


class Page(HTMLParser):
    """What a page refers to, and its headings."""

    def __init__(self, text: str):
        super().__init__()
        self.sources, self.headings, self._in = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self._in = tag
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        if self._in in ("h2", "h3") and data.strip():
            self.headings.append(data.strip())


@pytest.fixture(scope="module")
def page(place, run):
    write_folder(load_data(place / "data"), place / "folders")
    support = place / "folders" / "val"
    assert main(["evaluate", str(run), "--data", str(place / "data"), "--episodes", "8", "--queries", "4"]) == 0
    out = place / "report.html"
    words = ["report", str(run), "--out", str(out), "--data", str(place / "data"), "--support", str(support)]
    assert main(words) == 0
    return out


def test_a_page_says_everything_and_needs_no_other_file(page, run):
    read = Page(text := page.read_text())
    assert read.sources
    assert all(source.startswith("data:image/png;base64,") for source in read.sources)
    assert "http" not in re.sub(r'src="[^"]*"', "", text)
    wanted = ["Accuracy and cost", str(run), "What was run", "What it cost", "Training", "Recovered images"]
    wanted += ["Teachers and features", "What the zoo says of each support image", "How to use it"]
    assert read.headings == wanted
    assert "1-shot" in text
    assert "Not evaluated" not in text


def test_a_run_that_was_not_evaluated_is_shown_all_the_same(run, tmp_path):
    bare = shutil.copytree(run, tmp_path / "<b>bare</b>")
    (bare / "result.json").unlink(missing_ok=True)
    assert main(["report", str(bare), "--out", str(tmp_path / "page.html")]) == 0
    text = (tmp_path / "page.html").read_text()
    assert "Not evaluated yet" in text
    assert "&lt;b&gt;bare" in text
    assert "<b>bare" not in text


def test_no_run_is_explained(tmp_path, capsys):
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "page.html")]) == 2
    assert not (tmp_path / "page.html").exists()
    assert str(tmp_path) in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="a browser, chromium")
@pytest.mark.parametrize("width", [1200, 400])
def test_nothing_is_wider_than_the_screen(page, tmp_path, width):
    probe = "<script>document.title = document.documentElement.scrollWidth + ' ' + innerWidth</script>"
    (tmp_path / "probe.html").write_text(page.read_text() + probe)
    words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    words += [f"--window-size={width},900", "--dump-dom", (Path(tmp_path) / "probe.html").as_uri()]
    told = subprocess.run(words, capture_output=True, text=True, timeout=60).stdout
    scrolled, shown = map(int, re.search(r"<title>(\d+) (\d+)</title>", told).groups())
    assert scrolled <= shown
