"""A way of recovering images of your own: pixels climb towards a class. docs/extend.md says how dfml finds it."""

import torch
import torch.nn.functional as F

from dfml.bounds import Amount, StepSize
from dfml.compute.devices import send
from dfml.compute.ranks import SERIAL_RANKS
from dfml.functional.noise import natural_noise
from dfml.recovery import AbstractRecovery, Canvas, Recovered
from dfml.zoo import Capability


class Climb(AbstractRecovery[Canvas]):
    """Activation maximisation (Simonyan et al., 2013, https://arxiv.org/abs/1312.6034), from noise that looks natural.

    Args:
        steps: of Adam on the pixels.
        lr: its step size.
    """

    def __init__(self, *, steps: Amount = 20, lr: StepSize = 0.1):
        self.steps, self.lr = steps, lr

    def requires(self):
        return Capability.LOGITS | Capability.GRADIENTS

    def init(self, canvas, rng):
        return Canvas(canvas)  # nothing is learned from one visit to the next

    def recover(self, state, visits, *, rng, learn=True, ranks=SERIAL_RANKS):
        return [self._visit(state.spec, visit, rng.generator("visit", i)) for i, visit in enumerate(visits)]

    def _visit(self, spec, visit, generator):
        start = natural_noise(len(visit.labels), spec.channels, spec.size, generator)
        pixels = send(start, visit.teacher.device).logit(eps=0.02).requires_grad_()
        labels = send(visit.labels, visit.teacher.device)
        optimiser = torch.optim.Adam([pixels], lr=self.lr)
        for _ in range(self.steps):
            loss = F.cross_entropy(visit.teacher.forward(pixels.sigmoid()).logits, labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return Recovered(pixels.detach().sigmoid(), visit.labels, {"class": float(loss.detach())})
