"""A method, a zoo and configuration small enough to see through."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from dfml.learners import FrozenLearner
from dfml.methods.base import AbstractMethod, AbstractState, Role, StepReport
from dfml.recipes.options import Config
from dfml.zoo import Zoo
from dfml.zoo.card import Capability
from dfml.zoo.views import Tally
from toys import SPEC, toy_encoder


class Number(float):
    """A teacher that cannot be asked for anything."""

    capabilities = Capability(0)


class FakeZoo(Zoo):
    hash, recipe_hash, cards_hash, canvas = "sha256:fake", "sha256:recipe", None, SPEC

    def __init__(self):
        self.name, self.path, self.ids = "fake", Path("nowhere"), ["a", "b", "c"]
        self.tally = Tally()

    def entry(self, name):
        return SimpleNamespace(architecture="conv4")

    def on(self, device):
        return self

    def teacher(self, name):
        return Number(ord(name))


@dataclass
class FakeState(AbstractState):
    network: nn.Module
    optimiser: torch.optim.Optimizer
    seen: list = field(default_factory=list)

    def parts(self):
        return {"network": self.network, "optimiser": self.optimiser}

    def state_dict(self):
        return super().state_dict() | {"seen": self.seen}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.seen = state["seen"]


class FakeMethod(AbstractMethod):
    def __init__(self, *, lr: float = 0.01):
        self.lr = lr

    def requires(self):
        return {Role.VISIT: Capability.LOGITS}

    def init(self, zoo, rng):
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
        return FakeState(0, network, torch.optim.Adam(network.parameters(), lr=self.lr))

    def plan(self, state, zoo, rng):
        return {Role.VISIT: [zoo.ids[rng.integer("choice", high=3)]]}

    def step(self, state, teachers, rng):
        (teacher,) = teachers[Role.VISIT]
        x = torch.randn(6, 3, 8, 8, generator=rng.generator("x")) + teacher / 100 + torch.rand(1)  # a stray draw
        loss = state.network(x).square().mean()
        state.optimiser.zero_grad()
        loss.backward()
        state.optimiser.step()
        state.seen.append(teacher)
        return StepReport({"loss/fake": float(loss.detach())}, images=6)

    def validate(self, state, rng):
        state.network.eval()
        with torch.no_grad():
            value = float(state.network(torch.rand(2, 3, 8, 8)).sum())
        state.network.train()
        return {"pseudo_val": value}

    def learner(self, state):
        return FrozenLearner(toy_encoder())


def fake_config(**run) -> Config:
    values = {
        "seed": 0,
        "minutes": None,
        "steps": None,
        "val_every": 4,
        "checkpoint_minutes": 100.0,
        "keep_checkpoints": 2,
    }
    run = values | {"accelerator": "cpu", "threads": 1} | run
    return Config("fake", {"run": run, "method": {"name": "fake", "lr": 0.01}})
