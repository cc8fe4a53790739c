"""A step that leaves numbers which are none is taken back, and a teacher that caused it is asked no more."""

import json
import warnings
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from fakes import FakeMethod, FakeZoo, fake_config

from dfml.errors import InputError, NoAnswer, NotFinite
from dfml.methods.base import Role, StepReport, teachers_of
from dfml.randomness import Rng
from dfml.recipes.resolving import resolve
from dfml.recovery import RECOVERIES
from dfml.runs.loop import Loop
from dfml.runs.run_folder import RunFolder
from dfml.runs.soundness import Snapshot, check_step, unsound_teachers
from dfml.runs.train import check_capabilities
from dfml.training.bank import AnswerBank, Bank
from dfml.zoo import Capability, Counted
from dfml.zoo.views import BlackBox
from toys import SPEC, ToyZoo, toy_teacher

NAN = float("nan")


class Broken:
    """A teacher that answers NaN, or through which gradients are."""

    def __init__(self, inner, *, answers: bool = False):
        self.inner, self.card, self.capabilities, self.spoilt = inner, inner.card, inner.capabilities, answers
        self.device = inner.device

    def answers(self, images, kind="logits"):
        return self.inner.answers(images, kind) * (NAN if self.spoilt else 1.0)

    def features(self, images):
        return self.inner.features(images)

    def forward(self, images, *, statistics=False):
        passed = self.inner.forward(images, statistics=statistics)
        passed.logits.register_hook(lambda g: g * NAN)
        return passed


def test_teachers_are_probed_for_answers_and_gradients():
    zoo = ToyZoo()
    for name, answers in (("t1", True), ("t3", False)):
        zoo.teachers[name] = Counted(Broken(toy_teacher(name), answers=answers), zoo.tally)
    teachers = teachers_of(zoo, {Role.VISIT: ["t0", "t1"], Role.ANSWER: ["t1", "t3"]})
    assert unsound_teachers(teachers, SPEC) == {
        "t1": "its answers are NaN or infinite",
        "t3": "gradients through it are NaN or infinite",
    }


def state():
    return FakeMethod().init(FakeZoo(), Rng(0))


def test_teachers_whose_answers_do_not_depend_on_the_image_are_found_and_those_with_a_price_left_alone():
    zoo = ToyZoo()
    for name in ("t1", "t2"):
        zoo.teachers[name].teacher.network.head.weight.data.zero_()
    zoo.teachers["t2"] = BlackBox(zoo.teachers["t2"], "probabilities")
    teachers = teachers_of(zoo, {Role.ANSWER: ["t0", "t1", "t2"]})
    same = "its answers are the same whatever the image"
    assert unsound_teachers(teachers, SPEC) == {"t1": same, "t2": same}
    assert unsound_teachers(teachers, SPEC, free=True) == {"t1": same}


@pytest.mark.parametrize("name", RECOVERIES)
def test_what_a_recovery_learns_is_taken_back_with_a_step(name, shades):
    """A state with weights says which optimiser moves them: by that `learned` knows it."""
    of_images = {"real_images": shades, "unlabelled": f"{shades}/train.npz"}
    recovery = RECOVERIES[name](data=of_images[name]) if name in of_images else RECOVERIES[name]()
    state = recovery.init(SPEC, Rng(0))
    flat = json.dumps(state.state_dict(), default=lambda value: "tensor" if torch.is_tensor(value) else str(value))
    assert hasattr(state, "optimiser") or "tensor" not in flat


def test_a_snapshot_brings_weights_and_optimiser_back():
    made = state()
    made.network(torch.rand(2, 3, 8, 8)).sum().backward()
    made.optimiser.step()
    before = Snapshot(made)
    kept = [p.detach().clone() for p in made.network.parameters()]
    made.step = 7
    for p in made.network.parameters():
        p.data.fill_(NAN)
    made.optimiser.step()
    before.restore()
    assert made.step == 0
    assert all(torch.equal(p, k) for p, k in zip(made.network.parameters(), kept, strict=True))
    assert all(torch.isfinite(v["exp_avg"]).all() for v in made.optimiser.state.values())


@pytest.mark.parametrize("wrong", [NAN, float("inf")])
def test_terms_and_weights_must_be_numbers(wrong):
    made = state()
    check_step(made, StepReport({"loss": 1.0}))
    with pytest.raises(NotFinite, match="loss that is NaN or infinite"):
        check_step(made, StepReport({"loss": wrong}))
    next(made.network.parameters()).data.view(-1)[3] = wrong
    with pytest.raises(NotFinite, match="weights"):
        check_step(made, StepReport({"loss": 1.0}))


def test_banks_take_nothing_that_is_no_number():
    bank, answers = Bank(classes=2, capacity=4, shape=(3, 8, 8)), AnswerBank(capacity=4, shape=(3, 8, 8), outputs=2)
    images = torch.rand(2, 3, 8, 8)
    images[1, 0, 0, 0] = NAN
    with pytest.raises(NotFinite, match="images"):
        bank.add(images, torch.tensor([0, 1]), 0)
    with pytest.raises(NotFinite, match="answers"):
        answers.add(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.tensor([[1.0, NAN], [0.0, 0.0]]))
    assert len(bank) == len(answers) == 0


class Alike(FakeMethod):
    """Its images are alike in some steps."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def init(self, zoo, rng):
        made = super().init(zoo, rng)
        made.recovery = SimpleNamespace(optimiser=made.optimiser)
        return made

    def step(self, state, teachers, rng):
        report = super().step(state, teachers, rng)
        report.terms["spread"] = 0.001 if state.step + 1 in self.steps else 0.1
        return report


def test_a_generator_that_shows_one_picture_goes_on_in_smaller_steps(tmp_path):
    config, zoo = fake_config(steps=6), FakeZoo()
    folder = RunFolder.create(tmp_path / "run", config, zoo)
    with pytest.warns(UserWarning, match="step 3: taken back, the generator's steps halved: .* differ by 0.001"):
        state = Loop(Alike({3, 5}), zoo, folder, config.run).run()
    assert state.step == 6
    assert state.optimiser.param_groups[0]["lr"] == 0.01 / 4
    assert [line.get("spread") for line in folder.metrics()] == [0.1, 0.1, None, 0.1, None, 0.1]
    again = Loop(Alike(set()), zoo, folder, config.run).start()
    assert again.optimiser.param_groups[0]["lr"] == 0.01 / 4


def test_a_generator_that_shows_one_picture_again_and_again_ends_the_run(tmp_path):
    config, zoo = fake_config(steps=20), FakeZoo()
    folder = RunFolder.create(tmp_path / "run", config, zoo)
    loop = Loop(Alike(set(range(3, 20))), zoo, folder, config.run)
    told = pytest.warns(UserWarning, match="halved")
    with told, pytest.raises(InputError, match="training diverged in step 8: recovered images"):
        loop.run()
    assert folder.checkpoints.latest()["step"] == 7


class Diverging(FakeMethod):
    """Its weights are infinite from step 3 on."""

    def step(self, state, teachers, rng):
        report = super().step(state, teachers, rng)
        if state.step == 2:
            next(state.network.parameters()).data.fill_(float("inf"))
        return report


class NoTeachers(FakeZoo):
    def teacher(self, name):
        return Sound(ord(name), toy_teacher(name))


class Sound(float):
    def __new__(cls, value, teacher):
        made = super().__new__(cls, value)
        made.card, made.capabilities, made.device = teacher.card, teacher.capabilities, teacher.device
        made.answers, made.forward, made.features = teacher.answers, teacher.forward, teacher.features
        return made


def test_training_that_diverges_ends_with_an_error_and_keeps_the_last_sound_state(tmp_path):
    config, zoo = fake_config(steps=9), NoTeachers()
    folder = RunFolder.create(tmp_path / "run", config, zoo)
    with pytest.raises(InputError, match="training diverged in step 3: weights that are NaN") as error:
        Loop(Diverging(), zoo, folder, config.run).run()
    assert "the state of step 2 is kept" in str(error.value)
    saved = folder.checkpoints.latest()
    assert saved["step"] == 2
    assert all(torch.isfinite(v).all() for v in saved["state"]["network"].values())
    assert [line["step"] for line in folder.metrics()] == [1, 2]
    assert (tmp_path / "run" / "learner.json").exists()


def test_a_step_that_does_not_fit_into_memory_ends_with_an_error_and_keeps_the_last_state(tmp_path):
    class Large(FakeMethod):
        def step(self, state, teachers, rng):
            if state.step == 2:
                raise torch.OutOfMemoryError("tried to allocate 3 GiB\nmore")
            return super().step(state, teachers, rng)

    config, zoo = fake_config(steps=9), NoTeachers()
    folder = RunFolder.create(tmp_path / "run", config, zoo)
    with pytest.raises(
        InputError,
        match=r"step 3 does not fit into the memory of cpu: tried to allocate 3 GiB; the state of step 2 is kept",
    ):
        Loop(Large(), zoo, folder, config.run).run()
    assert folder.checkpoints.latest()["step"] == 2


def test_a_teacher_is_set_aside_and_the_run_goes_on(tmp_path):
    class Zoo(NoTeachers):
        def teacher(self, name):
            inner = toy_teacher(name)
            return Sound(NAN if name == "b" else ord(name), Broken(inner, answers=True) if name == "b" else inner)

    class Careful(FakeMethod):
        def plan(self, state, zoo, rng):
            return {Role.VISIT: [state.sound(zoo.ids)[rng.integer("choice", high=len(state.sound(zoo.ids)))]]}

    config, zoo = fake_config(steps=8), Zoo()
    folder = RunFolder.create(tmp_path / "run", config, zoo)
    with pytest.warns(UserWarning, match="teacher b is set aside: its answers are NaN or infinite"):
        state = Loop(Careful(), zoo, folder, config.run).run()
    assert state.step == 8
    assert state.aside == {"b": "its answers are NaN or infinite"}
    assert all(torch.isfinite(p).all() for p in state.network.parameters())
    lines = folder.metrics()
    assert lines[-1]["aside"] == state.aside
    json.dumps(lines, allow_nan=False)
    assert folder.checkpoints.latest()["state"]["aside"] == state.aside


def test_a_held_out_teacher_that_is_broken_costs_the_validation_and_nothing_else(tmp_path):
    class Watched(FakeMethod):
        def validate(self, state, rng):
            raise NotFinite("recovered images that are NaN or infinite")

    config, zoo = fake_config(steps=4, val_every=2), NoTeachers()
    folder = RunFolder.create(tmp_path / "run", config, zoo)
    with pytest.warns(UserWarning, match="step 2: no validation: recovered images"):
        assert Loop(Watched(), zoo, folder, config.run).run().step == 4


def test_without_a_sound_teacher_training_ends_clearly():
    made = state()
    made.aside = {"a": "its answers are NaN or infinite", "b": "its answers are NaN or infinite"}
    assert made.sound(["a", "c"]) == ["c"]
    with pytest.raises(InputError, match="all 2 teachers are set aside"):
        made.sound(["a", "b"])


class Given(FakeZoo):
    """A zoo whose models can be asked for less than everything."""

    def __init__(self, **capabilities):
        self.ids, self.name, self.known = list(capabilities), "given", capabilities

    def capabilities(self, model):
        return self.known[model]


def test_every_model_is_checked_for_what_the_method_and_its_recovery_need():
    """Not the first one alone; one that cannot be visited may answer, and nobody needs layer statistics.

    Where each teacher is visited in the way that suits it, labels are enough.
    """
    white, box = Capability.WHITE_BOX, Capability.LABELS | Capability.PROBABILITIES
    bare = white & ~Capability.BN_STATISTICS
    best = resolve("best")
    check_capabilities(best.build(), Given(a=box, b=box))
    by_generator = resolve("best", {"recovery": "meta_generator"})
    check_capabilities(by_generator.build(), Given(a=white, b=bare, c=box))
    with pytest.raises(InputError, match=r"a cannot give LOGITS\|GRADIENTS; b cannot give .*GRADIENTS"):
        check_capabilities(by_generator.build(), Given(a=box, b=box))
    with pytest.raises(InputError, match="b cannot give FEATURES"):
        check_capabilities(resolve("best", {"method": "zoo_ensemble"}).build(), Given(a=white, b=box))
    with pytest.raises(InputError, match="a cannot give FEATURES"):
        check_capabilities(resolve("best", {"method": "zoo_ensemble"}).build(), Given(a=box))


CACHED = cache(toy_teacher)


class Away(NoTeachers):
    """Its teacher b does not answer while it is down."""

    comes_back = True

    def __init__(self):
        super().__init__()
        self.down = True

    def teacher(self, name):
        if name == "b" and self.down:
            raise NoAnswer("b", "the server cannot be asked", "start it", comes_back=self.comes_back)
        return Sound(ord(name), CACHED(name))


class Everyone(FakeMethod):
    """Asks all teachers that are sound, in every step."""

    def plan(self, state, zoo, rng):
        return {Role.VISIT: state.sound(zoo.ids)}

    def step(self, state, teachers, rng):
        for teacher in teachers[Role.VISIT]:
            report = super().step(state, {Role.VISIT: [teacher]}, rng)
        state.step += 1
        return report


def paused(tmp_path, zoo, steps, on_progress=None):
    config = fake_config(steps=steps)
    folder = RunFolder.create(tmp_path / "run", config, zoo)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        state = Loop(Everyone(), zoo, folder, config.run, on_progress).run()
    return state, folder, [str(w.message) for w in told]


def test_a_step_without_an_answer_is_taken_anew_and_the_teacher_comes_back(tmp_path):
    zoo = Away()

    def up(update):
        zoo.down = update.step < 6

    state, folder, told = paused(tmp_path, zoo, 15, up)
    assert [line["step"] for line in folder.metrics()] == list(range(1, 16))
    assert told == [
        "step 1: teacher b is set aside for 4 steps: the server cannot be asked",
        "step 5: teacher b is asked again",
        "step 5: teacher b is set aside for 8 steps: the server cannot be asked",
        "step 13: teacher b is asked again",
    ]
    assert folder.metrics()[4]["aside"] == {"b": "the server cannot be asked"}
    assert state.aside == {}
    again = FakeMethod().init(zoo, Rng(0))
    again.load_state_dict(state.state_dict())
    assert again.pauses == state.pauses == {"b": [12, 8]}


def test_a_teacher_that_worked_for_long_pauses_briefly_again():
    made = state()
    assert made.pause("a", "away") == 4
    made.step = 4
    assert made.bring_back() == ["a"]
    assert made.pause("a", "away") == 8
    made.step = 11
    assert made.bring_back() == []
    assert made.bring_back(at_once=True) == ["a"]
    made.step = 40
    assert made.pause("a", "away") == 4


def test_one_that_cannot_come_back_is_set_aside_for_good(tmp_path):
    zoo = Away()
    zoo.comes_back = False
    state, _, told = paused(tmp_path, zoo, 12)
    assert told == ["step 1: teacher b is set aside for good: the server cannot be asked"]
    assert set(state.aside) == {"b"}


def test_a_run_without_any_answer_ends_clearly_and_goes_on_when_servers_are_back(tmp_path):
    class Silent(Away):
        def teacher(self, name):
            if self.down:
                raise NoAnswer(name, "the server cannot be asked", "start it")
            return super().teacher(name)

    zoo = Silent()
    with pytest.raises(InputError, match=r"all 3 teachers are set aside.*cannot be asked(.|\n)*--resume"):
        paused(tmp_path, zoo, 3)
    zoo.down = False
    config, folder = fake_config(steps=3), RunFolder(tmp_path / "run")
    assert Loop(Everyone(), zoo, folder, config.run).run().step == 3
    assert len(folder.metrics()) == 3


def test_a_process_that_alone_had_no_answer_ends(tmp_path):
    zoo, config = Away(), fake_config(steps=2)
    loop = Loop(Everyone(), zoo, RunFolder.create(tmp_path / "run", config, zoo), config.run)
    loop.ranks = SimpleNamespace(world=2)
    with pytest.raises(InputError, match="one of 2 processes had no answer"):
        loop._check_everywhere(NoAnswer("b", "away", "start it"))
    loop._check_everywhere(NoAnswer("b", "away", "start it", everywhere=True))


def test_a_probe_without_an_answer_blames_nobody():
    class Mute(Broken):
        def answers(self, images, kind="logits"):
            raise NoAnswer("t1", "away", "start it")

    zoo = ToyZoo()
    zoo.teachers["t1"] = Mute(toy_teacher("t1"))
    assert unsound_teachers(teachers_of(zoo, {Role.ANSWER: ["t0", "t1"]}), SPEC) == {}
