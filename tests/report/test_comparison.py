import json
import math
import statistics

import pytest

from dfml.errors import InputError
from dfml.recipes.resolving import resolve
from dfml.report import compare, cost_plot
from dfml.runs.per_episode import PER_EPISODE, read_per_episode
from dfml.runs.run_folder import RunFolder
from dfml.zoo import Zoo


def test_seeds_of_one_recipe_are_one_row_with_students_interval(judged):
    means = (50.0, 51.0, 53.5)
    runs = [judged(f"fast-{seed}", mean=mean, seed=seed) for seed, mean in enumerate(means)]
    (row,) = compare(runs).rows
    assert (row.recipe, row.seeds) == ("fast", [0, 1, 2])
    accuracy = row.accuracies[5, "inductive"]
    assert accuracy.mean == pytest.approx(statistics.fmean(means) + 50)
    assert accuracy.ci95 == pytest.approx(4.30265 * statistics.stdev(means) / math.sqrt(3), rel=1e-4)
    assert accuracy.over == "seeds"
    assert (row.seconds, row.memory_mb, row.images, row.questions) == (101.0, 102, 1000, 5000)


def test_a_run_alone_has_the_interval_over_its_episodes(judged):
    path = judged("one")
    accuracy = compare([path]).rows[0].accuracies[1, "inductive"]
    result = json.loads((path / "result.json").read_text())["results"][0]["accuracy"]["inductive"]
    assert (accuracy.mean, accuracy.ci95, accuracy.over) == (result["mean"], result["ci95"], "episodes")


def test_differences_are_paired_so_far_narrower_than_the_intervals(judged):
    first, second = judged("first", mean=50.0), judged("the second", mean=52.0, recipe="best")
    comparison = compare([first, second])
    weak, strong = comparison.rows
    assert (comparison.first, weak.minus_first) == ("fast", {})
    mean, ci95 = strong.minus_first[1]
    ours, theirs = (read_per_episode(p, sha256_of(p))[1, "inductive"].accuracies for p in (second, first))
    differences = [float(a - b) for a, b in zip(ours, theirs, strict=True)]
    assert mean == pytest.approx(2.0, abs=1e-4)
    assert mean == pytest.approx(statistics.fmean(differences))
    assert ci95 == pytest.approx(1.96 * statistics.stdev(differences) / math.sqrt(40))
    assert ci95 < strong.accuracies[1, "inductive"].ci95 / 10
    turned = compare([second, first]).rows[0].minus_first[1]
    assert turned == pytest.approx((-mean, ci95))


def sha256_of(path):
    return json.loads((path / "result.json").read_text())["per_episode"]


def test_seeds_are_averaged_in_each_episode_before_they_are_paired(judged):
    runs = [
        judged("a", mean=50.0),
        judged("b0", recipe="best", mean=51.0),
        judged("b1", recipe="best", mean=54.0, seed=1),
    ]
    assert compare(runs).rows[-1].minus_first[1][0] == pytest.approx(2.5, abs=1e-4)


def test_a_list_of_episodes_may_be_the_beginning_of_another(judged):
    comparison = compare([judged("few", episodes=20), judged("many", recipe="best", mean=55.0)])
    assert comparison.rows[1].minus_first.keys() == {1, 5}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"zoo": {"hash": "sha256:another"}}, "zoo glyphs (sha256:another...), not glyphs (sha256:first zo...)"),
        ({"split": "test", "manifest": 1}, "split test, not val"),
        ({"way": 3, "manifest": 1}, "way 3, not 5"),
        ({"manifest": 1}, "1-shot episodes of toys: 40 (sha256:"),
        ({"manifest": 1, "kept": False}, "1-shot episodes of toys"),
    ],
)
def test_what_cannot_stand_in_one_table_is_refused_by_name_unless_it_is_to_be_mixed(judged, change, told):
    odd, *others = judged("odd", **change), judged("a", recipe="best"), judged("b", recipe="best", seed=1)
    with pytest.raises(InputError) as error:
        compare([odd, *others])
    assert f"1 of 3 runs cannot stand beside {others[0]}\n  - {odd}: {told}" in str(error.value)
    assert "--mix" in error.value.do
    comparison = compare([odd, *others], mix=True)
    assert [len(row.runs) for row in comparison.rows] in ([1, 2], [2, 1])
    assert any(row.minus_first for row in comparison.rows) == ("manifest" not in change)
    assert comparison.varies == [name for name in change if name not in ("manifest", "kept")]


def test_one_recipe_in_two_zoos_is_two_rows(judged):
    runs = [judged("a"), judged("b", seed=1, zoo={"hash": "sha256:another"})]
    assert [row.recipe for row in compare(runs, mix=True).rows] == ["fast (a)", "fast (b)"]


def test_rows_of_one_name_say_in_what_they_differ(judged):
    runs = [judged(f"{n}-{seed}", seed=seed, mean=n, **{"method.updates": n}) for n in (10, 20) for seed in (0, 1)]
    assert [row.recipe for row in compare(runs).rows] == ["fast (updates=10)", "fast (updates=20)"]
    longer = judged("longer", mean=60.0, **{"method.updates": 10, "run.steps": 50})
    assert compare([runs[0], longer]).rows[1].recipe == "fast (steps=50)"


def test_the_same_seed_twice_is_not_merged_and_the_same_folder_twice_is_read_once(judged):
    runs = [judged("a"), judged("b", mean=51.0)]
    comparison = compare([*runs, runs[0]])
    assert [row.recipe for row in comparison.rows] == ["fast (a)", "fast (b)"]
    assert f"Not merged, since seed 0 comes twice: {runs[0]}, {runs[1]}." in comparison.notes


def test_runs_that_were_not_evaluated_are_all_named_with_what_to_do(judged, tmp_path):
    bare = RunFolder.create(tmp_path / "bare", resolve("fast"), Zoo.open("glyphs")).path
    with pytest.raises(InputError) as error:
        compare([judged("good"), bare, tmp_path / "nowhere"])
    assert f"{bare}: not evaluated (no result.json)" in error.value.given
    assert f"{tmp_path / 'nowhere'}: no such folder" in error.value.given
    assert f"dfml evaluate {bare} --data DATA" in error.value.do
    with pytest.raises(InputError, match="no run"):
        compare([])


@pytest.mark.parametrize("damage", ["{", '{"schema": 7, "results": []}', '{"schema": 1, "results": [{"shot": 1}]}'])
def test_a_damaged_result_is_refused(judged, damage):
    path = judged("run")
    (path / "result.json").write_text(damage)
    with pytest.raises(InputError, match="not a result"):
        compare([path])


def test_accuracies_of_another_evaluation_are_not_paired(judged):
    runs = [judged("a"), judged("other", recipe="best")]
    (runs[0] / PER_EPISODE).write_bytes((runs[1] / PER_EPISODE).read_bytes())
    comparison = compare(runs)
    assert not any(row.minus_first for row in comparison.rows)
    assert f"Not paired, since `dfml evaluate` did not keep accuracies by episode yet: {runs[0]}." in comparison.notes


def test_what_is_amiss_with_a_run_is_noted(judged):
    early = judged("early", steps=7)
    other = judged("other", recipe="best", shots=(1,), device="cuda x4", steps=60)
    notes = compare([early, other]).notes
    assert f"{early} stopped at step 7 of {resolve('fast').run.steps}." in notes
    assert f"{other} was judged at 1 shots alone." in notes
    assert "Seconds are of different devices: cpu x1, cuda x4." in notes


def test_every_run_is_a_point_of_the_picture(judged, monkeypatch):
    drawn = []
    monkeypatch.setattr("matplotlib.axes.Axes.plot", spy_on("plot", drawn))
    runs = [judged("a"), judged("b", seed=1), judged("c", recipe="best", mean=60.0, seconds={"total": 0.0})]
    assert cost_plot(compare(runs)).startswith(b"\x89PNG")
    points = [(x, y) for xs, ys in drawn[:2] for x, y in zip(xs, ys, strict=True)]  # of the first panel
    assert points == [(1.0, 70.0), (100.0, 60.0), (101.0, 60.0)]


def spy_on(name, seen):
    from matplotlib.axes import Axes

    original = getattr(Axes, name)

    def called(axes, xs, ys, *rest, **options):
        seen.append((xs, ys))
        return original(axes, xs, ys, *rest, **options)

    return called
