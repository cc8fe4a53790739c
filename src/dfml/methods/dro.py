"""DRO: a network of networks learns the weights of all models, robustly in the embeddings that stand for them."""

import copy
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dfml.bounds import Amount, Count, StepSize, Weight
from dfml.errors import InputError
from dfml.functional.inner import Parameters
from dfml.functional.matching import Units, matching, reordered
from dfml.functional.robust import worst_nearby
from dfml.learners import MAML, AbstractLearner
from dfml.methods.base import AbstractMethod, AbstractState, Plan, Role, StepReport, Teachers
from dfml.nn import Encoder
from dfml.nn.hypernetwork import ChunkedHypernetwork
from dfml.nn.units import interchangeable_units
from dfml.randomness import Rng
from dfml.training.weights import check_one_architecture, float_tensors
from dfml.zoo.card import Capability
from dfml.zoo.store import Zoo
from dfml.zoo.teacher import Teacher

MIN_VARIANCE = 1e-5  # of BatchNorm's statistics, which the hypernetwork might make negative


@dataclass
class DROState(AbstractState):
    """The hypernetwork, an embedding for each model, their optimiser; and the network whose weights are given."""

    hypernetwork: ChunkedHypernetwork
    embeddings: nn.Embedding
    optimiser: torch.optim.Optimizer
    encoder: Encoder
    zoo: Zoo
    groups: list[Units]
    anchor: Parameters
    orders: dict[str, list[Tensor]] = field(default_factory=dict)  # of each model's channels, found when first asked
    kept = ("hypernetwork", "embeddings", "optimiser")

    def weights_of(self, teacher: Teacher) -> Float[Tensor, " weights"]:
        """A model's weights in the anchor's order of channels, each tensor in the anchor's units."""
        name = teacher.card.id
        own = {k: t.to(self.anchor[k].device) for k, t in float_tensors(self.zoo.network(name).backbone).items()}
        if name not in self.orders:
            self.orders[name] = matching(own, self.anchor, self.groups)
        own = reordered(own, self.groups, self.orders[name])
        parts = [((own[k] - a.mean()) / _deviation(a)).flatten() for k, a in self.anchor.items()]
        return torch.cat(parts).to(self.embeddings.weight.device)

    def tensors(self, weights: Float[Tensor, " weights"]) -> Parameters:
        """What `weights_of` was made of."""
        pieces = weights.to(next(iter(self.anchor.values())).device).split([a.numel() for a in self.anchor.values()])
        each = zip(self.anchor.items(), pieces, strict=True)
        given = {k: piece.view_as(a) * _deviation(a) + a.mean() for (k, a), piece in each}
        return {k: t.clamp(min=MIN_VARIANCE) if k.endswith("running_var") else t for k, t in given.items()}


def _deviation(tensor: Tensor) -> Tensor:
    """Of a tensor's numbers around their mean; 1 where they are all the same."""
    deviation = tensor.std(correction=0)
    return torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation))


class DRO(AbstractMethod[DROState]):
    """Wang et al.: "Meta-learning without data via Wasserstein distributionally-robust model fusion", UAI 2022,
    https://openreview.net/forum?id=Hq8Ug88j5ec.

    A reconstruction: only the paper's abstract could be read, which says that a black-box network fuses all models
    from task embeddings, that robust optimisation diversifies the embeddings, and that it gives the initialisation of
    a new task. Here every model has a learned embedding, from which a chunked hypernetwork gives the model's weights,
    and a few ascent steps move the embedding to where that fails most, at the price of a squared distance. The learner
    starts from the network at the mean embedding, and adapts by gradient steps.

    *Deviations from the paper*: unknown beyond the abstract. Form of the hypernetwork, loss (mean squared error of the
    weights, each tensor in units of the first model's), penalty, number of ascent steps and the choice of the mean
    embedding are ours; channels are brought into the first model's order before they are learned, as `OTA` does,
    because the mean of networks in different orders is none; heads are left out.

    *Deviations from the published code*: there is none.

    Args:
        teachers_per_step: models whose weights are learned in a step.
        updates: of hypernetwork and embeddings, a step.
        embedding: length of an embedding.
        chunk: weights that the hypernetwork gives at once.
        hidden: units of its hidden layers.
        lr: Adam's step size.
        penalty: of the squared distance between an embedding and where it is moved to; small, because the error is a
            mean over all weights, which an embedding moves little.
        ascent_steps: that move it; 0 fuses without robustness.
        ascent_lr: their step size.
    """

    def __init__(
        self,
        *,
        teachers_per_step: Amount = 8,
        updates: Amount = 20,
        embedding: Amount = 32,
        chunk: Amount = 256,
        hidden: Amount = 128,
        lr: StepSize = 1e-3,
        penalty: Weight = 0.01,
        ascent_steps: Count = 3,
        ascent_lr: StepSize = 10.0,
    ):
        self.teachers_per_step, self.updates, self.lr = teachers_per_step, updates, lr
        self.embedding, self.chunk, self.hidden = embedding, chunk, hidden
        self.penalty, self.ascent_steps, self.ascent_lr = penalty, ascent_steps, ascent_lr

    def requires(self) -> dict[Role, Capability]:
        """Weights to learn."""
        return {Role.START: Capability.WHITE_BOX}

    def init(self, zoo: Zoo, rng: Rng) -> DROState:
        """A random hypernetwork and embeddings.

        Raises:
            InputError: teachers of different architectures or widths, or that are not dfml's own.
        """
        check_one_architecture(zoo)
        backbone = copy.deepcopy(zoo.network(zoo.ids[0]).backbone)
        anchor = {name: t.clone() for name, t in float_tensors(backbone).items()}
        with rng.seeded("hypernetwork"):
            outputs = sum(t.numel() for t in anchor.values())
            hypernetwork = ChunkedHypernetwork(outputs, embedding=self.embedding, chunk=self.chunk, hidden=self.hidden)
            embeddings = nn.Embedding(len(zoo), self.embedding)
        return DROState(
            step=0,
            hypernetwork=hypernetwork,
            embeddings=embeddings,
            optimiser=torch.optim.Adam([*hypernetwork.parameters(), *embeddings.parameters()], lr=self.lr),
            encoder=Encoder(backbone, zoo.canvas),
            zoo=zoo,
            groups=interchangeable_units(backbone),
            anchor=anchor,
        )

    def plan(self, state: DROState, zoo: Zoo, rng: Rng) -> Plan:
        """A few models."""
        ids = state.sound(zoo.ids)
        drawn = torch.randperm(len(ids), generator=rng.generator("select"))[: self.teachers_per_step]
        return {Role.START: [ids[i] for i in drawn.tolist()]}

    def step(self, state: DROState, teachers: Teachers, rng: Rng) -> StepReport:
        """Learn the weights of some models, from embeddings that are moved against the hypernetwork."""
        drawn = teachers[Role.START]
        wanted = torch.stack([state.weights_of(teacher) for teacher in drawn])
        numbers = torch.tensor([state.zoo.number_of[i] for i in drawn.ids], device=wanted.device)

        def errors(embeddings: Tensor) -> Tensor:
            return ((state.hypernetwork(embeddings) - wanted) ** 2).mean(-1)

        met = []
        for _ in range(self.updates):
            centres = state.embeddings(numbers)

            # sup over e: where near its embedding is each model given worst?
            worst = worst_nearby(errors, centres, penalty=self.penalty, steps=self.ascent_steps, lr=self.ascent_lr)

            # min over hypernetwork and embeddings: give it there, too; the displacement is a constant.
            displacement = worst - centres.detach()
            loss = errors(centres + displacement)
            state.optimiser.zero_grad()
            loss.mean().backward()
            state.optimiser.step()
            met.append(torch.stack([loss.detach().mean(), (displacement**2).sum(-1).mean()]))
        fusion, transport = torch.stack(met).mean(0).tolist()
        state.step += 1
        return StepReport({"fusion": fusion, "transport": transport})

    @torch.no_grad()
    def learner(self, state: DROState) -> AbstractLearner:
        """MAML's inner loop from the network at the mean embedding.

        Raises:
            InputError: no step was taken, so that the weights are random numbers.
        """
        if not state.step:
            raise InputError(
                "a run of no steps", "some, so that weights are learned", "go on with more minutes or steps"
            )
        numbers = torch.tensor([state.zoo.number_of[i] for i in state.sound(state.zoo.ids)])
        mean = state.embeddings.weight[numbers.to(state.embeddings.weight.device)].mean(0, keepdim=True)
        encoder = copy.deepcopy(state.encoder)
        encoder.backbone.load_state_dict(state.tensors(state.hypernetwork(mean)[0]), strict=False)
        return MAML(encoder.requires_grad_(True).to(mean.device))
