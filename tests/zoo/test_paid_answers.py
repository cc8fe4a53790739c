"""Answers that were paid for stay, whatever happens to the process, the file or the disk."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from dfml.errors import InputError
from dfml.zoo.loaders.paid import PaidAnswers, key_of

ONE, OTHER = "11" * 32, "22" * 32


def keys(n: int) -> list[bytes]:
    return [key_of(np.full((3, 2, 2), i, np.uint8)) for i in range(n)]


def kept(path, n=5, identity=ONE) -> PaidAnswers:
    paid = PaidAnswers(path, identity, 2)
    with paid.alone():
        paid.add(keys(n), np.arange(2.0 * n).reshape(n, 2))
    return paid


def test_a_key_is_of_shape_and_bytes():
    image = np.arange(12, dtype=np.uint8)
    assert len({key_of(image.reshape(shape)) for shape in ((3, 2, 2), (1, 3, 4), (3, 4, 1))}) == 3
    assert key_of(image.reshape(3, 2, 2)) == key_of(np.asfortranarray(image.reshape(3, 2, 2)))


def test_answers_come_back_in_another_process_in_the_order_asked_for(tmp_path):
    kept(tmp_path / "a")
    paid = PaidAnswers(tmp_path / "a", ONE, 2)
    with paid.alone():
        assert len(paid) == 5
        assert keys(6)[5] not in paid
        order = [keys(5)[i] for i in (3, 0, 3)]
        assert paid.rows(order).tolist() == [[6, 7], [0, 1], [6, 7]]


def test_a_file_cut_anywhere_keeps_every_whole_record_and_can_be_added_to(tmp_path):
    whole = kept(tmp_path / "a").path.read_bytes()
    header = len(whole) - 5 * 48
    for cut in range(len(whole) + 1):
        path = tmp_path / "cut"
        path.write_bytes(whole[:cut])
        paid, left = PaidAnswers(path, ONE, 2), max(0, cut - header) // 48
        with paid.alone():
            assert len(paid) == left
            missing = [key for key in keys(5) if key not in paid]
            paid.add(missing, np.full((len(missing), 2), 9.0))
        again = PaidAnswers(path, ONE, 2)
        with again.alone():
            assert len(again) == 5
            assert again.rows(keys(5)).tolist() == [[2 * i, 2 * i + 1] if i < left else [9, 9] for i in range(5)]


def test_a_record_that_was_damaged_is_not_believed(tmp_path):
    content = bytearray(kept(tmp_path / "a").path.read_bytes())
    content[-3 * 48 + 35] ^= 1  # in the answer of the third
    (tmp_path / "a").write_bytes(content)
    paid = PaidAnswers(tmp_path / "a", ONE, 2)
    with paid.alone():
        assert [key in paid for key in keys(5)] == [True, True, False, True, True]


def test_answers_of_another_model_are_refused(tmp_path):
    kept(tmp_path / "a")
    for other in (PaidAnswers(tmp_path / "a", OTHER, 2), PaidAnswers(tmp_path / "a", ONE, 3)):
        with pytest.raises(InputError, match="another model"), other.alone():
            pass


def test_those_who_share_a_file_see_what_the_others_paid_for(tmp_path):
    one, other = PaidAnswers(tmp_path / "a", ONE, 2), PaidAnswers(tmp_path / "a", ONE, 2)
    asked, turns = [], threading.Barrier(2)

    def ask(paid):
        turns.wait()
        for key in keys(20):
            with paid.alone():
                if key not in paid:
                    asked.append(key)
                    paid.add([key], np.zeros((1, 2)))

    threads = [threading.Thread(target=ask, args=(paid,)) for paid in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(asked) == sorted(keys(20))


def test_a_full_disk_leaves_whole_records(tmp_path, monkeypatch):
    paid = kept(tmp_path / "a")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left"), paid.alone():
        paid.add(keys(6)[5:], np.zeros((1, 2)))
    monkeypatch.undo()
    again = PaidAnswers(tmp_path / "a", ONE, 2)
    with paid.alone():
        assert len(paid) == 5
    with again.alone():
        assert len(again) == 5


ADDING = """
import sys
from pathlib import Path
import numpy as np
from dfml.zoo.loaders.paid import PaidAnswers, key_of
paid = PaidAnswers(Path(sys.argv[1]), "11" * 32, 2)
for i in range(10**6):
    with paid.alone():
        paid.add([key_of(np.array([[[i]]]).astype(np.uint32).view(np.uint8))], np.full((1, 2), float(i)))
    print(i, flush=True)
"""


def test_what_was_kept_before_a_kill_is_there_after_it(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ADDING, str(tmp_path / "a")], stdout=subprocess.PIPE, text=True)
    for _ in range(30):
        last = int(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    last = max([last, *(int(line) for line in child.stdout.read().split())])
    child.wait()
    paid = PaidAnswers(tmp_path / "a", ONE, 2)
    with paid.alone():
        assert len(paid) >= last + 1
        found = [key_of(np.array([[[i]]]).astype(np.uint32).view(np.uint8)) for i in range(last + 1)]
        assert paid.rows(found)[:, 0].tolist() == list(range(last + 1))
