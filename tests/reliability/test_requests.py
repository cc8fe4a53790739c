"""Requests of which any byte may be wrong get an answer, and do not break the servers."""

from contextlib import ExitStack

from fuzz import fuzz
from http_requests import TRACEBACKS, requests


def test_no_request_breaks_a_server(tmp_path):
    with ExitStack() as stack:
        kinds = requests(tmp_path, stack)
        sound = {kind.name: kind.read() for kind in kinds}
        counts = fuzz(kinds, most=210)
        assert {kind.name: kind.read() for kind in kinds} == sound
    assert sound == {kind.name: b"404" if "another" in kind.name else b"200" for kind in kinds}
    assert not [name for name in counts if name.startswith("fault")]


def test_a_server_that_breaks_is_a_fault(tmp_path, monkeypatch):
    monkeypatch.setattr("dfml.serve.predictor_api.decode_picture", None)
    with ExitStack() as stack:
        kinds = [kind for kind in requests(tmp_path, stack) if kind.name == "HTTP predict"]
        assert any(name.startswith("fault") for name in fuzz(kinds, most=20))


def test_a_caller_that_hangs_up_is_no_error_of_the_server(tmp_path):
    with ExitStack() as stack:
        predict = requests(tmp_path, stack)[0]
        predict.path.write_bytes(predict.path.read_bytes().replace(b"LENGTH", b"100000"))
        assert predict.read() == b""
    assert not TRACEBACKS.told


def test_the_key_is_asked_for(tmp_path):
    with ExitStack() as stack:
        predict = requests(tmp_path, stack)[0]
        predict.path.write_bytes(predict.path.read_bytes().replace(b"Bearer", b"Barer"))
        assert predict.read() == b"401"
