"""A teacher behind an address: nothing is paid twice, nothing that is no answer is believed, no key is written."""

import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from dfml.cli import main
from dfml.errors import InputError, NoAnswer, NotAtHand, NotFinite
from dfml.zoo import Capability, Teacher, Zoo, add, add_http
from dfml.zoo.edit import edit_card
from http_servers import Server, server, unused_port

IMAGES = torch.rand(7, 3, 16, 16, generator=torch.Generator().manual_seed(0))
NEW = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
QUICK = {"patience": 1.5}


def teacher_of(made, folder, **options):
    add_http(folder / "zoo", made.url, **QUICK | options)
    return Zoo.open(folder / "zoo").teacher(made.teacher.card.id).teacher


def test_it_answers_as_the_teacher_does_on_images_of_bytes(tmp_path):
    with server(max_images=3) as made:
        teacher = teacher_of(made, tmp_path)
        assert isinstance(teacher, Teacher)
        assert teacher.capabilities == Capability.LABELS | Capability.PROBABILITIES
        sent = (IMAGES * 255).round().to(torch.uint8)
        wanted = made.teacher.answers(sent, "probabilities")
        torch.testing.assert_close(teacher.answers(IMAGES), wanted, rtol=0, atol=2e-4)
        assert torch.equal(teacher.answers(IMAGES, "labels"), teacher.answers(sent, "probabilities").argmax(-1))
        assert made.api.gate.counts.images == 7 + 1  # and the grey one, when it was added
        for asked in (lambda: teacher.answers(IMAGES, "logits"), lambda: teacher.forward(IMAGES)):
            with pytest.raises(InputError, match="gives probabilities alone"):
                asked()
        with pytest.raises(NotFinite):
            teacher.answers(IMAGES * float("nan"))


def test_labels_and_the_largest_alone(tmp_path):
    with server(answers="labels") as made:
        teacher = teacher_of(made, tmp_path)
        assert teacher.capabilities == Capability.LABELS
        assert torch.equal(teacher.answers(IMAGES, "labels"), made.teacher.answers(IMAGES, "labels"))
    with server(seed=1, top=1) as made:
        teacher = teacher_of(made, tmp_path)
        said = teacher.answers(IMAGES)
        assert torch.equal(said.argmax(-1), made.teacher.answers(IMAGES, "labels"))
        torch.testing.assert_close(said.sum(-1), torch.ones(7))


def test_an_image_is_asked_once_whoever_asks_and_however_often(tmp_path):
    with server() as made:
        teacher = teacher_of(made, tmp_path)
        twice = torch.cat([IMAGES, IMAGES.flip(0)])
        said = teacher.answers(twice)
        assert torch.equal(said[:7], said[7:].flip(0))
        other = Zoo.open(tmp_path / "zoo").teacher("t0")
        assert torch.equal(other.answers(twice, "probabilities"), said)
        assert made.api.gate.counts.images == 8
    assert torch.equal(Zoo.open(tmp_path / "zoo").teacher("t0").answers(IMAGES, "probabilities"), said[:7])  # no server


def test_answers_that_are_lost_on_the_way_are_not_paid_twice(tmp_path):
    with server() as made:
        teacher = teacher_of(made, tmp_path)
        made.sick.illness = "lossy"
        teacher.answers(IMAGES)
        assert (made.api.gate.counts.images, made.api.gate.counts.repeated) == (8, 7)


def test_a_call_that_fails_keeps_what_came_before(tmp_path):
    with server(max_images=2) as made:
        teacher = teacher_of(made, tmp_path)
        teacher.answers(NEW[:1])
        sound, left = made.sick.app, [2]

        async def app(scope, receive, send):
            left[0] -= 1
            made.sick.illness = None if left[0] >= 0 else "failing"
            await sound(scope, receive, send)

        made.sick.app = app
        with pytest.raises(NoAnswer, match="answers 500: oh no"):
            teacher.answers(IMAGES)
        made.sick.app, made.sick.illness = sound, None
        paid = made.api.gate.counts.images
        assert paid >= 2 + 4
        teacher.answers(IMAGES)
        assert made.api.gate.counts.images == 2 + 7


@pytest.mark.parametrize(
    ("illness", "said"), [("garbage", "no JSON: <html>"), ("nan", "shape|NaN"), ("failing", "answers 500")]
)
def test_what_is_no_answer_is_refused_with_a_reason_and_comes_back(tmp_path, illness, said):
    with server() as made:
        teacher = teacher_of(made, tmp_path)
        made.sick.illness = illness
        with pytest.raises(NoAnswer, match=said) as error:
            teacher.answers(IMAGES[:1])
        assert error.value.comes_back
        assert error.value.teacher == "t0"
        again = pickle.loads(pickle.dumps(error.value))
        assert (str(again), again.reason, again.comes_back) == (str(error.value), error.value.reason, True)
        assert made.sick.asked == 1 + 1 or illness == "failing"  # what is wrong is not asked for again at once
        made.sick.illness = None
        assert teacher.answers(IMAGES[:1]).shape == (1, 3)


def test_a_busy_and_a_slow_server_are_waited_for(tmp_path):
    with server() as made:
        teacher = teacher_of(made, tmp_path, patience=20.0)
        for illness, images in (("busy", IMAGES), ("slow", NEW)):
            made.sick.illness = illness
            assert teacher.answers(images).shape == (len(images), 3)


def test_a_server_that_asks_for_more_than_patience_is_not_waited_for(tmp_path):
    with server(rate=0.01) as made:
        teacher = teacher_of(made, tmp_path)
        start = time.monotonic()
        with pytest.raises(NoAnswer, match="asks to wait for"):
            teacher.answers(IMAGES)
        assert time.monotonic() - start < 1.4


def test_a_server_that_is_away_and_comes_back(tmp_path):
    made = Server().up()
    teacher = teacher_of(made, tmp_path)
    made.down()
    with pytest.raises(NoAnswer, match="cannot be asked"):
        teacher.answers(IMAGES)
    made.up()
    assert teacher.answers(IMAGES).shape == (7, 3)
    made.down()


def test_another_model_at_the_same_address_is_noticed_before_it_is_paid(tmp_path):
    made = Server().up()
    teacher = teacher_of(made, tmp_path)
    made.down()
    other = Server(seed=0, names=("a", "b", "z"))
    other.port = made.port
    other.up()
    with pytest.raises(NoAnswer, match="another model"):
        Zoo.open(tmp_path / "zoo").teacher("t0").answers(IMAGES, "probabilities")
    other.down()
    assert other.api.gate.counts.images == 0
    assert teacher.paid is not None


def test_the_budget_is_for_good_and_is_checked_before_asking(tmp_path):
    with server() as made:
        teacher = teacher_of(made, tmp_path, budget=8)
        teacher.answers(IMAGES)
        with pytest.raises(NoAnswer, match="1 images more than the 8 that were asked, of a budget of 8") as error:
            teacher.answers(torch.cat([IMAGES, NEW[:1]]))
        assert not error.value.comes_back
        assert made.api.gate.counts.images == 8
        edit_card(tmp_path / "zoo", "t0", {"options.budget": 9})
        zoo = Zoo.open(tmp_path / "zoo")
        assert zoo.teacher("t0").answers(NEW[:1], "labels").shape == (1,)


def test_the_key_is_in_no_file_log_or_message(tmp_path, monkeypatch, caplog):
    key = "sesame-open-4711"
    monkeypatch.setenv("KEY_OF_TEST", key)
    caplog.set_level(logging.DEBUG)
    with server(key=key) as made:
        with pytest.raises(NoAnswer, match="401"):
            add_http(tmp_path / "zoo", made.url, **QUICK)
        assert not (tmp_path / "zoo").exists()
        teacher = teacher_of(made, tmp_path, key_from="KEY_OF_TEST")
        sound = made.sick.app

        async def echo(scope, receive, send):
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": repr(scope["headers"]).encode()})

        made.sick.app = echo
        with pytest.raises(NoAnswer, match="400") as error:
            teacher.answers(IMAGES)
        made.sick.app = sound
        assert key not in str(error.value)
        assert key not in repr(teacher.call)
        for wrong in ("", "two words", "new\nline"):
            monkeypatch.setenv("KEY_OF_TEST", wrong)
            with pytest.raises(InputError, match="KEY_OF_TEST") as error:
                Zoo.open(tmp_path / "zoo").teacher("t0")
            assert not wrong or wrong not in str(error.value)
    assert not any(key.encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert key not in caplog.text


@pytest.mark.parametrize(
    "url", ["ftp://h", "http://", "http://u:secret@h:1", "http://h/?key=secret", "http://h:99999", "https://[x"]
)
def test_an_address_that_is_none_or_holds_a_key_is_refused(tmp_path, url):
    with pytest.raises(InputError, match="address") as error:
        add_http(tmp_path / "zoo", url)
    assert "secret" not in str(error.value)


def test_nothing_is_written_where_no_server_is(tmp_path):
    with pytest.raises(NoAnswer, match="cannot be asked"):
        add_http(tmp_path / "zoo", f"http://127.0.0.1:{unused_port()}", patience=0.5)
    with server() as made:
        made.sick.illness = "nan"
        with pytest.raises(NoAnswer):
            add_http(tmp_path / "zoo", made.url, **QUICK)
        with pytest.raises(InputError, match="2 classes"):
            add_http(tmp_path / "zoo", made.url, class_names=2)
        with pytest.raises(InputError, match="add_http"):
            add(tmp_path / "zoo", made.url)
    assert not (tmp_path / "zoo").exists()


def test_a_zoo_from_elsewhere_calls_nobody_unasked(tmp_path, monkeypatch, capsys):
    with server() as made:
        teacher_of(made, tmp_path)
        monkeypatch.setenv("DFML_CONFIG", str(tmp_path / "somebody else"))
        with pytest.raises(NotAtHand, match="images are sent to http://127"):
            Zoo.open(tmp_path / "zoo").teacher("t0")
        assert main(["trust", str(tmp_path / "zoo")]) == 0
        assert f"trusted: images are sent to {made.url}" in capsys.readouterr().out
        assert Zoo.open(tmp_path / "zoo").teacher("t0").answers(IMAGES, "labels").shape == (7,)


def test_a_server_that_moves_is_the_same_model_to_runs(tmp_path):
    with server() as made:
        teacher_of(made, tmp_path)
        before = Zoo.open(tmp_path / "zoo")
        answers = before.teacher("t0").answers(IMAGES, "probabilities")
    with server() as moved:
        assert main(["zoo", "edit", str(tmp_path / "zoo"), "t0", "--set", f"options.url={moved.url}"]) == 0
        zoo = Zoo.open(tmp_path / "zoo")
        assert (zoo.hash, zoo.cards_hash) == (before.hash, before.cards_hash)
        assert torch.equal(zoo.teacher("t0").answers(IMAGES, "probabilities"), answers)
        assert moved.api.gate.counts.images == 0
        zoo.teacher("t0").answers(NEW, "labels")
        assert moved.api.gate.counts.images == len(NEW)


def test_the_command_line_adds_an_address(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KEY_OF_TEST", "k")
    with server(key="k") as made:
        words = ["zoo", "add", str(tmp_path / "zoo"), made.url, "--key-from", "KEY_OF_TEST", "--budget", "100"]
        assert main([*words, "--id", "box", "--classes", "x,y,z", "--patience", "2"]) == 0
        out = capsys.readouterr().out
        assert "added box: http, 3 classes, labels, probabilities" in out
        assert "unencrypted" in out
        assert main([*words, "--id", "box2", "--mean", "0.5"]) == 2
        assert main(["zoo", "add", str(tmp_path / "zoo"), "net.pt2", "--budget", "100"]) == 2
    card = json.loads((tmp_path / "zoo" / "box.json").read_text())
    assert card["options"] == {"url": made.url, "key_from": "KEY_OF_TEST", "budget": 100, "patience": 2.0}
    assert card["class_names"] == ["x", "y", "z"]


ASKING = """
import sys
import torch
from dfml.zoo import Zoo
teacher = Zoo.open(sys.argv[1]).teacher("t0")
images = torch.rand(400, 3, 16, 16, generator=torch.Generator().manual_seed(5))
print("asking", flush=True)
teacher.answers(images, "labels")
"""


def test_a_kill_at_any_moment_costs_nothing(tmp_path):
    images = torch.rand(400, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    with server(max_images=4) as made:
        teacher = teacher_of(made, tmp_path)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        for wait in (0.05, 0.3):
            command = [sys.executable, "-c", ASKING, str(tmp_path / "zoo")]
            child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
            assert child.stdout.readline() == "asking\n"
            time.sleep(wait)
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
        teacher.answers(images)
        sent = {row.tobytes() for row in (images * 255).round().to(torch.uint8).numpy()}
        assert made.api.gate.counts.images == len(sent) + 1
        assert len(teacher.paid) == len(sent) + 1


def test_the_folder_of_the_answers_must_be_writable(tmp_path):
    with server() as made:
        teacher = teacher_of(made, tmp_path)
        teacher.paid.path = Path(tmp_path / "nowhere" / "t0.answers")
        with pytest.raises(InputError, match="cannot be written"):
            teacher.answers(IMAGES)
        assert made.api.gate.counts.images == 1


def test_an_audit_does_not_call_a_model_broken_whose_server_is_away(tmp_path, capsys):
    with server() as made:
        teacher_of(made, tmp_path)
    before = (tmp_path / "zoo" / "zoo.json").read_bytes()
    assert main(["zoo", "audit", str(tmp_path / "zoo"), "--set-aside"]) == 0
    said = capsys.readouterr().out
    assert "t0  unreachable: nothing can be said of it: the server cannot be asked" in said
    assert "0 of 1 models are bad" in said
    assert (tmp_path / "zoo" / "zoo.json").read_bytes() == before
