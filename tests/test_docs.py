"""What the documentation tells people to type works, in its order, in an empty folder. Every page: `test_pages.py`."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import foreign_models
from dfml import save_learner
from dfml.cli import find_command, main
from dfml.cli.commands import COMMANDS
from dfml.learners import LEARNERS
from dfml.recipes.options import recipe_names
from dfml.runs.train import configure
from foreign_models import CLASSES, Net
from toys import toy_encoder

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "models.md"
BLOCK = re.compile(r"(?:<!-- (needs|exit|serves) (\S+) -->\n)?```bash\n(.*?)```", re.S)

OF_TASKS = re.compile(r"(?:<!-- (needs) (\S+) -->\n)?```(bash|python)\n(.*?)```", re.S)


def has(package: str) -> bool:
    try:
        return importlib.import_module(package) is not None
    except ImportError:
        return False


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder that the page speaks of: its models and images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "my_models", foreign_models)
    torch.save(Net(seed=1).state_dict(), "mine.pth")
    batch = torch.export.Dim("batch")
    images, shapes = (torch.rand(2, 3, 16, 16),), ({0: batch},)
    torch.export.save(torch.export.export(Net(seed=2).eval(), images, dynamic_shapes=shapes), "net.pt2")
    Path("models").mkdir()
    torch.save(Net(seed=3).state_dict(), "models/a.pth")
    Path("models/readme.txt").write_text("models of the year")
    for name, colour in (("red", (200, 30, 30)), ("blue", (30, 30, 200))):
        Path("few_images", name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (20, 20), colour).save(f"few_images/{name}/{number}.png")
    if has("onnxscript"):
        torch.onnx.export(Net(seed=4).eval(), images, "net.onnx", dynamic_shapes=shapes, verbose=False)
    if has("timm"):
        timm = importlib.import_module("timm")
        torch.save(timm.create_model("test_resnet", num_classes=3).state_dict(), "timm_resnet.pth")
    if has("torchvision"):
        models = importlib.import_module("torchvision.models")
        torch.save(models.get_model("mobilenet_v3_small", num_classes=3).state_dict(), "mobilenet.pth")
    if has("transformers"):
        transformers = importlib.import_module("transformers")
        config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], num_labels=3)
        config.id2label = dict(enumerate(CLASSES))
        transformers.AutoModelForImageClassification.from_config(config).save_pretrained("transformers_resnet")
        processor = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
        Path("transformers_resnet/preprocessor_config.json").write_text(json.dumps(processor))
    return tmp_path


@pytest.fixture
def serve():
    """Starts a command that serves, at a port that the system chooses; gives the port."""
    started = []

    def start(words, port):
        words = ["0" if w == port else w for w in words]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", "dfml", *words]
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
        return re.search(r"http://\S+:(\d+)", started[-1].stdout.readline())[1]

    yield start
    for process in started:
        process.terminate()
        process.communicate()


def test_every_block_of_the_page_on_models_runs(place, serve, capfd):
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) >= 9
    ports = {}
    for word, value, text in blocks:
        if word == "needs" and not has(value):
            continue
        if word == "serves":
            ports[value] = serve(shlex.split(text)[1:], value)
            continue
        for line in text.strip().splitlines():
            words = shlex.split(line)
            for port, here in ports.items():
                words = [w.replace(f":{port}", f":{here}") for w in words]
            assert words[0] == "dfml"
            given = [str(p) for w in words[1:] for p in (sorted(Path().glob(w)) if "*" in w else [w])]
            wanted = int(value) if word == "exit" else 0
            assert main(given) == wanted, f"{line}\n{capfd.readouterr().err}"
    assert Path("mine.png").stat().st_size > 1000
    assert Path("predictor/predictor.json").is_file()
    assert Path("boxes/box.answers").stat().st_size > 1000


@pytest.mark.parametrize("page", ["README.md", "docs/your_task.md"])
def test_every_block_on_a_task_of_ones_own_runs(page, tmp_path, monkeypatch, capfd):
    text = (ROOT / page).read_text(encoding="utf-8")
    if page == "README.md":
        text = re.search(r"## A classifier of your own\n(.*?)\n## ", text, re.S)[1]
    monkeypatch.chdir(tmp_path)
    save_learner(LEARNERS["ridge"](toy_encoder()).eval(), "learner/learner")
    for folder, name, colour in (
        ("few_images", "red", (200, 30, 30)),
        ("few_images", "blue", (30, 30, 200)),
        ("more_images", "red", (180, 40, 40)),
        ("more_images", "green", (30, 200, 30)),
        ("photos", "", (190, 30, 40)),
    ):
        Path(folder, name).mkdir(parents=True, exist_ok=True)
        for number in range(2):
            Image.new("RGB", (20, 20), colour).save(Path(folder, name, f"{number}.png"))
    blocks = OF_TASKS.findall(text)
    assert len(blocks) >= 2
    for word, value, language, block in blocks:
        if (word == "needs" and not has(value)) or ("FewShotClassifier" in block and not has("sklearn")):
            continue
        if language == "python":
            exec(compile(block, page, "exec"), {})
            continue
        for line in re.findall("^dfml (?!app|serve).*", block, re.M):
            assert main(shlex.split(line, comments=True)[1:]) == 0, f"{line}\n{capfd.readouterr().err}"
    assert Path("predictor/predictor.json").is_file()


def documented():
    """Every command line of every page, continued lines as one; optional parts and places to fill in are left out."""
    for page in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("[rb]e*/**/README.md")]):
        if "zoos" in page.parts:
            continue
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(re.sub(r"\[|\]|<\(.*", " ", line), comments=True)
                words = [w for w in words if w != "..."]
                yield from ((page.relative_to(ROOT), each) for each in split_at(words, {"|", "&", "&&", ">", "source"}))


def split_at(words, ends):
    part = []
    for word in [*words, next(iter(ends))]:
        if word not in ends:
            part.append(word)
        elif part:
            yield part
            part = []


DOCUMENTED = list(documented())


def of(program):
    return sorted({(str(page), *words[words.index(program) + 1 :]) for page, words in DOCUMENTED if program in words})


@pytest.mark.parametrize("line", of("dfml"), ids=" ".join)
def test_the_command_line_takes_what_is_documented(line, capsys):
    found = find_command(list(line[1:]))
    if found is None or "echo" in line:  # help; a method that another package brings
        return
    command, _, named = found
    if command is COMMANDS["train"] and not named["resume"]:
        overrides = {name: value for name, value in named["overrides"].items() if value not in ("DATA", "FOLDER")}
        recipe = named["recipe"] if named["recipe"] in recipe_names() else None
        configure(Path(), recipe=recipe, minutes=named["minutes"], steps=named["steps"], overrides=overrides)


@pytest.mark.parametrize("line", of("python"), ids=" ".join)
def test_scripts_are_there_and_know_their_options(line):
    script, *given = line[1:]
    if script.startswith("-"):  # a module, or a line of Python
        return
    text = (ROOT / script).read_text(encoding="utf-8")
    for option in (word.partition("=")[0] for word in given if word.startswith("--")):
        assert f'"{option}"' in text or f'"{option[2:]}"' in text, option


def test_environment_variables_are_documented():
    page = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    names = set(re.findall(r"\bDFML_[A-Z_]+\b", source))
    assert len(names) >= 3
    assert not [name for name in names if f"`{name}`" not in page]
