"""Oracle B: the same network, trained on the real images and labels of all meta-train classes."""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dfml.bounds import Amount, Decay, StepSize
from dfml.data import load_data
from dfml.functional.augmentation import shift_and_flip
from dfml.functional.schedules import cosine
from dfml.learners import AbstractLearner, FrozenLearner
from dfml.methods.base import AbstractMethod, AbstractState, Plan, Role, StepReport, Teachers
from dfml.nn import Classifier, Encoder, InputSpec, as_floats, build_backbone
from dfml.nn.precision import mixed_precision
from dfml.randomness import Rng
from dfml.training.meta_model import update_average
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo


@dataclass
class OracleBState(AbstractState):
    """The classifier, its moving average, and the real images."""

    network: Classifier
    average: Classifier
    optimiser: torch.optim.Optimizer
    spec: InputSpec
    images: Tensor
    labels: Tensor
    kept = ("network", "average", "optimiser")

    def to(self, device: torch.device) -> None:
        """Move the parts and the images."""
        super().to(device)
        self.images, self.labels = self.images.to(device), self.labels.to(device)


class OracleB(AbstractMethod[OracleBState]):
    """What the data itself gives: the baseline of Chen et al., "A Closer Look at Few-shot
    Classification", ICLR 2019, https://arxiv.org/abs/1904.04232.

    One network learns all meta-train classes by cross-entropy, from real images, with shifts and flips. A task's
    classes are told apart by ridge regression on the features of its last block.

    *Deviations from the paper*: ridge regression in the place of a linear layer trained by gradient steps.

    *Deviations from the published code*: the same.

    Args:
        data: what the zoo was built from; its train part is read.
        network: architecture.
        width: its channels; None is the architecture's usual width.
        updates: a step.
        batch_size: images of an update.
        lr: Adam's highest step size; over the run it falls to zero, as a cosine.
        flip: mirror images; False where mirroring changes the class.
        average_decay: of the moving average that is shipped, per update.
    """

    uses_data = True
    ships = "ema-last"

    def __init__(
        self,
        *,
        data: str = "glyphs",
        network: str = "conv4",
        width: Amount | None = None,
        updates: Amount = 100,
        batch_size: Amount = 128,
        lr: StepSize = 5e-3,
        flip: bool = True,
        average_decay: Decay = 0.99,
    ):
        self.data, self.network, self.width, self.updates = data, network, width, updates
        self.batch_size, self.lr, self.flip, self.average_decay = batch_size, lr, flip, average_decay

    def requires(self) -> dict[Role, Capability]:
        """No teachers."""
        return {}

    def init(self, zoo: Zoo, rng: Rng) -> OracleBState:
        """A random classifier, and the images."""
        spec = zoo.canvas
        real = load_data(self.data, size=spec.size).train
        with rng.seeded("network"):
            backbone = build_backbone(self.network, image_size=spec.size, channels=spec.channels, width=self.width)
            network = Classifier(backbone, len(real.class_names))
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = torch.optim.Adam(network.parameters(), lr=self.lr)
        return OracleBState(0, network, copy.deepcopy(network).eval(), optimiser, spec, real.images, real.labels)

    def plan(self, state: OracleBState, zoo: Zoo, rng: Rng) -> Plan:
        """No teachers."""
        return {}

    def step(self, state: OracleBState, teachers: Teachers, rng: Rng) -> StepReport:
        """Some updates on random images."""
        state.optimiser.param_groups[0]["lr"] = self.lr * cosine(state.progress)
        state.network.train()
        losses = []
        for update in range(self.updates):
            g = rng.generator("batch", update)
            chosen = torch.randint(len(state.images), (self.batch_size,), generator=g)
            images = shift_and_flip(state.spec.fit(as_floats(state.images[chosen])), g, flip=self.flip)
            with mixed_precision():
                logits = state.network(state.spec.normalise(images))
            loss = F.cross_entropy(logits.float(), state.labels[chosen])
            state.optimiser.zero_grad()
            loss.backward()
            state.optimiser.step()
            passed = state.step * self.updates + update
            update_average(state.average, state.network, decay=self.average_decay, step=passed)
            losses.append(loss.detach())
        state.step += 1
        return StepReport({"cross_entropy": float(torch.stack(losses).mean())})

    def learner(self, state: OracleBState) -> AbstractLearner:
        """Ridge regression on the features of the averaged network."""
        return FrozenLearner(Encoder(state.average.backbone, state.spec), head="ridge")
