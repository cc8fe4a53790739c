"""A consolidation run over servers that are slow, busy, failing, that talk nonsense, or die: nothing is paid twice."""

import warnings
from contextlib import ExitStack

import pytest

from dfml import train
from dfml.zoo import Zoo, add_http
from http_servers import Server, server

QUICK = {
    "method.images_per_class": 3,
    "method.updates": 3,
    "method.batch_size": 16,
    "method.validation_teachers": 0,
    "recovery.latent": 8,
    "network.width": 4,
}
ILLNESSES = ("slow", "busy", "failing", "garbage", "nan", "dead")
STEPS, CURED = 8, 2


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The run, what was warned of, and of each teacher the images that were paid for and the answers kept."""
    folder = tmp_path_factory.mktemp("boxes")
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("DFML_CONFIG", str(folder / "config"))
        servers = {}
        for seed, illness in enumerate(("well", *ILLNESSES)):
            servers[illness] = Server(seed, [f"class {(seed + k) % 6}" for k in range(3)]).up()
            stack.callback(servers[illness].down)
            patience = 30.0 if illness in ("slow", "busy") else 0.6
            add_http(folder / "zoo", servers[illness].url, id=illness, patience=patience, shared_classes=True)
        for illness in ILLNESSES[:-1]:
            servers[illness].sick.illness = illness
        servers["dead"].down()

        def cure(update):
            if update.step == CURED:
                for each in servers.values():
                    each.sick.illness = None
                servers["dead"].up()

        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            run = train(
                folder / "zoo", out=folder / "run", recipe="fast", steps=STEPS, overrides=QUICK, on_progress=cure
            )
        counts = {}
        for name, each in servers.items():
            paid = Zoo.open(folder / "zoo").teacher(name).teacher.paid
            with paid.alone():
                counts[name] = (each.api.gate.counts.images, len(paid))
    return run, [str(w.message) for w in told], counts


def test_the_run_goes_on_without_the_sick_and_with_them_when_they_are_back(ran):
    run, told, _ = ran
    lines = run.folder.metrics()
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    sick = {"failing", "garbage", "nan", "dead"}
    assert set(lines[0]["aside"]) == sick  # the slow and the busy were waited for
    for name, reason in {"failing": "answers 500", "garbage": "no JSON", "nan": "", "dead": "cannot be asked"}.items():
        assert reason in lines[0]["aside"][name]
        assert any(f"teacher {name} is set aside for 4 steps" in text for text in told)
        assert any(f"teacher {name} is asked again" in text for text in told)
    assert "aside" not in lines[-1]
    assert run.checkpoint["state"]["aside"] == {}
    assert all(line["distillation"] > 0 for line in lines)


def test_every_answer_was_paid_for_once_and_is_kept(ran):
    _, _, counts = ran
    for name, (paid, kept) in counts.items():
        assert paid == kept > 1, name
    assert counts["failing"][0] < counts["well"][0]  # it missed some steps


def test_three_that_give_labels_alone_are_asked_so_often_as_their_budget_says(tmp_path):
    budget = 40
    with ExitStack() as stack:
        servers = {}
        for seed in range(3):
            names = [f"class {(seed + k) % 4}" for k in range(3)]
            servers[f"box-{seed}"] = stack.enter_context(server(seed, names=names, answers="labels"))
            add_http(tmp_path / "zoo", servers[f"box-{seed}"].url, id=f"box-{seed}", shared_classes=True)
        before = {name: each.api.gate.counts.images for name, each in servers.items()}
        options = QUICK | {"method.questions": budget, "method.drawn": 16}
        run = train(tmp_path / "zoo", out=tmp_path / "run", recipe="black_box", steps=5, overrides=options)
        paid = {name: each.api.gate.counts.images - before[name] for name, each in servers.items()}
    assert paid == run.checkpoint["state"]["questions"]["asked"] == dict.fromkeys(servers, budget)
    lines = run.folder.metrics()
    assert [line["queries"] for line in lines] == [48, 48, 24, 0, 0]
    assert all(line["distillation"] > 0 for line in lines)
