"""Run folders that were evaluated, with accuracies of the test's choosing."""

import json

import pytest
import torch

from dfml.evaluation.manifest import Manifest
from dfml.evaluation.score import Score
from dfml.recipes.resolving import resolve
from dfml.runs.per_episode import write_per_episode
from dfml.runs.run_folder import RunFolder
from dfml.zoo import Zoo

EPISODES = 40


@pytest.fixture
def judged(tmp_path):
    """Makes a run folder; returns its path."""

    def make(
        name, *, mean=50.0, seed=0, recipe="fast", shots=(1, 5), manifest=0, episodes=EPISODES, kept=True, **change
    ):
        settings = {key: change.pop(key) for key in [k for k in change if "." in k]}
        folder = RunFolder.create(tmp_path / name, resolve(recipe, {"run.seed": seed} | settings), Zoo.open("glyphs"))
        rows, scores = [], {}
        for shot in shots:
            images = torch.arange(episodes)[:, None].expand(-1, 5 * (shot + 15))
            drawn = (images[:, : 5 * shot], images[:, 5 * shot :])
            named = Manifest(f"images {manifest}", "toys", "val", 5, shot, 15, 0, *drawn)
            noise = torch.randn(episodes, generator=torch.Generator().manual_seed(shot)).double()  # of the episodes
            own = torch.randn(episodes, generator=torch.Generator().manual_seed(seed + len(name))).double()
            values = mean + 10 * shot + 5 * (noise - noise.mean()) + 0.1 * (own - own.mean())
            score = Score.of(values, seconds=1.0, norm="running", manifest=named)
            scores[shot] = {"inductive": score}
            row = {"shot": shot, "method": "consolidate", "data": "toys", "split": "val", "way": 5, "queries": 15}
            row |= {"episodes": episodes, "manifest": named.hash, "zoo": {"hash": "sha256:first zoo"}}
            row |= {
                "networks_at_inference": 1,
                "uses_data": False,
                "steps": folder.config.run.steps,
                "seconds": {"total": 100.0 + seed},
            }
            row |= {"images_recovered": 1000, "teacher_queries": 5000, "peak_memory_mb": 100 + seed, "device": "cpu x1"}
            rows.append(row | {"accuracy": {"inductive": score.to_dict()}} | change)
        sha256 = write_per_episode(folder.path, scores) if kept else None
        result = {"schema": 1, "per_episode": sha256, "results": rows}
        (folder.path / "result.json").write_text(json.dumps(result))
        return folder.path

    return make
