"""A classifier of one's own: calibrated, with none of these, its answers as files and folders, and judged."""

import csv
import io
import json
import shutil
import time

import pytest
from PIL import Image

from dfml.cli import main, show
from dfml.learners.predictor_file import load_predictor


@pytest.fixture(scope="module")
def predictor(place, run):
    out = place / "predictor-of-own"
    words = ["adapt", str(run), "--support", str(place / "data" / "test"), "--out", str(out), "--reject", "0.2"]
    assert main(words) == 0
    return out


def test_adapting_says_how_sure_it_is_and_the_file_keeps_it(predictor, place, run, tmp_path, capsys):
    loaded = load_predictor(predictor)
    assert loaded.floor is not None
    assert loaded.about["reject"] == 0.2
    assert loaded.about["confidence"]["images"] == sum(loaded.shots)
    plain = ["adapt", str(run), "--support", str(place / "data" / "test"), "--out", str(tmp_path / "p")]
    assert main([*plain, "--no-calibrate"]) == 0
    assert "calibrated" not in capsys.readouterr().out
    assert json.loads((tmp_path / "p" / "predictor.json").read_text())["schema"] == 3, "as earlier versions read it"
    assert main(plain) == 0
    assert "calibrated on these, with temperature" in capsys.readouterr().out
    assert main([*plain, "--reject", "2"]) == 2
    assert "reject 2.0" in capsys.readouterr().err


def test_answers_as_a_table_and_sorted_into_folders(predictor, place, tmp_path, capsys):
    folder, out = place / "data" / "test", tmp_path / "sorted"
    words = ["predict", str(predictor), str(folder), "--csv", "--sort-into", str(out)]
    assert main(words) == 0
    shown = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(shown.out)))
    files = sorted(folder.glob("*/*.png"))
    assert [row["image"] for row in rows] == [str(path) for path in files]
    names = load_predictor(predictor).class_names
    assert all(sum(float(row[name]) for name in names) == pytest.approx(1, abs=1e-4) for row in rows)
    for row, path in zip(rows, files, strict=True):
        assert any(p.read_bytes() == path.read_bytes() for p in (out / row["label"]).iterdir())
    assert len(list(out.glob("*/*"))) == len(files), "files of one name stand beside each other"
    assert f"copied: {len(files)} images" in shown.err
    assert main(words) == 0
    assert len(list(out.glob("*/*"))) == 2 * len(files), "nothing is overwritten"
    assert main(["predict", str(predictor), str(folder), "--csv", "--json"]) == 2


def test_a_line_every_ten_seconds_where_there_is_no_terminal(capsys, monkeypatch):
    clock = iter(range(0, 100, 6))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    with show.counting("images", 4) as count:
        for _ in range(4):
            count()
    assert capsys.readouterr().err.splitlines() == ["2 of 4 images, 0 a second", "4 of 4 images, 0 a second"]


def test_a_predictor_is_judged_class_by_class(predictor, place, tmp_path, capsys):
    data = tmp_path / "more"
    shutil.copytree(place / "data" / "test", data)
    names = load_predictor(predictor).class_names
    (data / "stranger").mkdir()
    Image.effect_noise((16, 16), 200).save(data / "stranger" / "0.png")
    (data / names[0] / "broken.png").write_bytes(b"no picture")
    assert main(["evaluate", str(predictor), "--data", str(data)]) == 1
    shown = capsys.readouterr()
    assert "broken.png: not a readable image" in shown.err
    assert "expected calibration error" in shown.out
    result = json.loads((predictor / "result.json").read_text())
    images = [len(list((data / name).glob("[0-9]*.png"))) for name in names]
    assert [sum(row) for row in result["confusion"]] == [*images, 1]
    right = sum(row[i] for i, row in enumerate(result["confusion"]))
    assert result["accuracy"]["mean"] == pytest.approx(100 * right / (sum(images) + 1), abs=1e-3)
    assert result["accuracy"]["low"] < result["accuracy"]["mean"] < result["accuracy"]["high"]
    assert result["unread"] == 1
    found = result["per_class"][0]["found"]
    assert found == pytest.approx(100 * result["confusion"][0][0] / images[0])
    assert main(["evaluate", str(predictor), "--data", str(data), "--baselines"]) == 2
    assert "--baselines for a predictor" in capsys.readouterr().err
    (tmp_path / "others" / "x").mkdir(parents=True)
    shutil.copy(data / "stranger" / "0.png", tmp_path / "others" / "x")
    assert main(["evaluate", str(predictor), "--data", str(tmp_path / "others")]) == 2
    assert "no images of the predictor's classes" in capsys.readouterr().err
