"""The page at a whole program: what it serves, its key, and a task from its classes to the file that `dfml` reads."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec

import httpx2
import numpy as np
import pytest
from PIL import Image

from dfml import save_learner
from dfml.cli import main
from dfml.learners import LEARNERS
from toys import toy_encoder

HERE = pytest.mark.skipif(find_spec("gradio") is None, reason="the extra app (gradio)")


@pytest.fixture
def place(tmp_path):
    save_learner(LEARNERS["ridge"](toy_encoder()).eval(), tmp_path / "learner" / "learner")
    for name, colour in (("red", (200, 30, 30)), ("blue", (30, 30, 200))):
        for i in range(3):
            noise = np.random.default_rng(i).integers(-30, 30, (20, 20, 3))
            picture = Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8))
            picture.save(tmp_path / f"{name}{i}.png")
    return tmp_path


@contextmanager
def page(*words, **environment):
    """The address of ``dfml app``, whose temporary files are gone in the end."""
    paths = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "dfml", "app", *map(str, words), "--port", "0"]
    process = subprocess.Popen(command, env=os.environ | paths | environment, stdout=subprocess.PIPE, text=True)
    try:
        yield re.search(r"http://\S+:\d+", process.stdout.readline())[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


@pytest.mark.skipif(find_spec("gradio") is not None, reason="gradio is here")
def test_without_gradio_it_says_what_to_install(place, capsys):
    assert main(["app", str(place / "learner")]) == 2
    assert "constraints.txt -e '.[app]'" in capsys.readouterr().err


def test_others_are_let_in_with_a_key_alone(place, capsys, monkeypatch):
    monkeypatch.delenv("DFML_SERVE_KEY", raising=False)
    assert main(["app", str(place / "learner"), "--host", "0.0.0.0"]) == 2
    assert "give a key" in capsys.readouterr().err


@HERE
@pytest.mark.slow
def test_a_task_from_its_classes_to_its_file(place, tmp_path):
    from gradio_client import Client, handle_file

    def images(*names):
        return [{"image": handle_file(str(place / name)), "caption": None} for name in names]

    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with page(place / "learner", TMPDIR=str(temporary)) as url:
        client = Client(url, verbose=False, download_files=str(tmp_path / "downloads"))

        def adapt(*classes):
            names = [name for name, _ in classes] + [""] * (20 - len(classes))
            fields = [shown for _, shown in classes] + [[]] * (20 - len(classes))
            return client.predict(False, 5, *names, *fields, api_name="/adapt")

        said, _ = adapt(("red", images("red0.png")), ("red", []))
        assert "2 classes are named" in said
        assert "has no image yet" in said
        said, file = adapt(("red", images("red0.png", "red1.png")), ("<b>", images("blue0.png", "blue1.png")))
        assert "&lt;b&gt; (2 images)" in said
        answers = client.predict(images("red2.png", "blue2.png"), api_name="/ask")
        assert re.findall(r"<b>(.*?)</b>", answers) == ["red", "&lt;b&gt;"]
        assert "http" not in answers
    assert list(temporary.glob("dfml-app-*")) == []
    subprocess.run([sys.executable, "-m", "zipfile", "-e", file, str(tmp_path)], check=True)
    assert main(["predict", str(tmp_path / "predictor"), str(place / "red2.png")]) == 0


@HERE
@pytest.mark.slow
def test_browsers_are_told_to_ask_nobody_else_and_files_and_keys_are_bound(place):
    with page(place / "learner", "--max-bytes", "1000", DFML_SERVE_KEY="sesame") as url:
        assert "default-src 'self'" in httpx2.get(url).headers["content-security-policy"]
        assert httpx2.get(f"{url}/config").status_code == 401
        assert httpx2.post(f"{url}/login", data={"username": "me", "password": "wrong"}).status_code == 400
        with httpx2.Client(base_url=url) as known:
            assert known.post("/login", data={"username": "me", "password": "sesame"}).status_code == 200
            config = known.get("/config").json()
            assert (config["analytics_enabled"], config["stylesheets"]) == (False, [])
            large = known.post("/gradio_api/upload", files={"files": ("large.png", bytes(2000))})
            assert large.status_code == 413
