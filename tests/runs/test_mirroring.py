import pytest
import torch
from torch import nn

from dfml.nn import Classifier, InputSpec
from dfml.recipes.resolving import resolve
from dfml.runs.mirroring import share_alike, with_mirroring
from dfml.zoo import Zoo
from dfml.zoo.card import Capability
from toys import ToyZoo


class Sides(nn.Module):
    """Tells whether the left or the right half, or the upper or the lower, is the brighter one."""

    feature_size = 2

    def __init__(self, across: bool):
        super().__init__()
        self.across = across

    def forward(self, x):
        first, second = x.mean(1).chunk(2, -1 if self.across else -2)
        difference = (first.mean((-1, -2)) - second.mean((-1, -2)))[:, None]
        return 10 * torch.cat([difference, -difference], -1)


class SidesZoo(ToyZoo):
    def __init__(self, across: bool):
        super().__init__()
        self.canvas = InputSpec(size=16)
        for counted in self.teachers.values():
            own = counted.teacher
            own.network = Classifier(
                Sides(across), len(own.card.class_ids), nn.Linear(2, len(own.card.class_ids), False)
            )
            weight = torch.full_like(own.network.head.weight, -9.0)
            weight[:2] = torch.eye(2)
            own.network.head.weight = nn.Parameter(weight, requires_grad=False)
            own._fast, own._copied = None, False

    def capabilities(self, model):
        return Capability.LABELS | Capability.LOGITS | Capability.GRADIENTS


def test_classes_that_a_mirror_changes_are_told_from_those_that_it_leaves():
    assert share_alike(SidesZoo(across=False)) > 0.9
    assert share_alike(SidesZoo(across=True)) < 0.6


@pytest.mark.parametrize(("across", "words"), [(False, "are mirrored"), (True, "are not mirrored")])
def test_what_was_left_open_is_decided_and_said(across, words):
    config = resolve("fast", {"recovery.flip": True})
    assert config.sections["method"]["flip"] is None
    settled, (said,) = with_mirroring(config, SidesZoo(across))
    assert settled.sections["method"]["flip"] is (not across)
    assert settled.sections["recovery"]["flip"] is True  # was given
    assert words in said
    assert with_mirroring(settled, SidesZoo(across)) == (settled, ())


def test_black_boxes_are_mirrored_and_it_is_said(monkeypatch):
    zoo = ToyZoo()
    monkeypatch.setattr(zoo, "capabilities", lambda model: Capability.LABELS)
    settled, (said,) = with_mirroring(resolve("fast"), zoo)
    assert settled.sections["recovery"]["flip"] is True
    assert "No model" in said


def test_characters_are_not_mirrored():
    assert share_alike(Zoo.open("glyphs")) < 0.8
