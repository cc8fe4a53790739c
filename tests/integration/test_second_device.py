"""Training away from the CPU: nothing is left behind, and the device is waited for a few times a step."""

import pytest
from small import run_script


@pytest.mark.parametrize(
    ("recipe", "learner"),
    [
        ("free", "protonet"),
        pytest.param("free", "maml", marks=pytest.mark.slow),
        pytest.param("best", "-", marks=pytest.mark.slow),
    ],
)
def test_a_second_device_gives_the_numbers_of_the_cpu_and_is_seldom_waited_for(recipe, learner, zoo_path):
    cpu, second = run_script("second_device.py", recipe, learner, zoo_path)
    for here, there in zip(cpu["metrics"], second["metrics"], strict=True):
        assert here.keys() == there.keys()
        for name in here.keys() - {"recover_seconds"}:
            assert there[name] == pytest.approx(here[name], rel=1e-3, abs=1e-4), name
    assert not [place for place in second["reads"] if "inner.py" in place or "engines.py" in place], second["reads"]
    assert len(second["reads"]) <= 8, second["reads"]
    assert second["writes"] == []


@pytest.mark.slow
def test_a_teacher_trained_on_a_second_device_is_that_of_the_cpu():
    cpu, second = run_script("second_device.py", "zoo", "-", "glyphs")
    assert second["metrics"] == cpu["metrics"]
    assert not [place for place in second["reads"] if "loss" in place or "total" in place], second["reads"]
    assert not [place for place in second["writes"] if "places" in place or "order" in place], second["writes"]
