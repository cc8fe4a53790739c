import torch
import torch.nn.functional as F

from dfml.compute.ranks import SERIAL_RANKS
from dfml.functional.divergences import kl_divergence
from dfml.nn import InputSpec
from dfml.randomness import Rng
from dfml.training.distillation import imitation_losses, meta_logits
from dfml.training.meta_model import ModelOptions, build_meta_model
from dfml.zoo.views import BlackBox
from toys import toy_teacher


def test_imitation_is_the_divergence_and_where_labels_are_known_the_cross_entropy(monkeypatch):
    monkeypatch.setattr("dfml.nn.precision.bfloat16_is_fast", lambda: False)
    model = build_meta_model(ModelOptions(width=4), InputSpec(size=16), classes=5, rng=Rng(0))
    images, rows = torch.rand(6, 3, 16, 16), torch.tensor([4, 0, 2])
    labels = torch.tensor([0, 1, 2, 2, 1, 0])
    teacher = toy_teacher()
    black_box = BlackBox(teacher, "probabilities")
    questions = [(teacher, images, rows), (teacher, images, rows), (black_box, images, rows)]
    losses = imitation_losses(model, questions, [None, labels, None], SERIAL_RANKS, logits=meta_logits)
    own, known, hidden = (loss(model.distilled_parameters()) for loss in losses)
    said = model(images, rows)
    divergence = kl_divergence(teacher.forward(images).logits, said)
    torch.testing.assert_close(own, divergence, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(known - own, F.cross_entropy(said, labels), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(hidden, own, rtol=1e-3, atol=1e-4)
