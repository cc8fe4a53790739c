"""How well each model of a zoo goes with the others: robust scores from who recognises whose images."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dfml.zoo_building.recognition import Looks

CUT = 0.4  # of the trusted models' median standing: below, a model contradicts the others
PARTNERS_NEEDED = 2  # with a single partner nobody can say which of the two is wrong
PRIOR_LOOKS = 1.0  # so many looks of middling outcome are added to how well an image or a judge is known
MISNAMED = 0.2  # share of images that another naming of a model's outputs would have to bring right
DOUBTFUL = 0.8  # of the median standing: a model above needs no other names


@dataclass(frozen=True)
class Standings:
    """The outcome.

    Args:
        score: mean of how a model recognises trusted models' images and how these recognise its own, 0 at chance;
            NaN without enough partners.
        share: the same without chance taken off and without weights: the share of images in the claimed class.
        trusted: models that do not contradict the others.
        median: of the trusted models' scores.
    """

    score: Float[Tensor, " models"]
    share: Float[Tensor, " models"]
    trusted: Bool[Tensor, " models"]
    median: float

    @property
    def low(self) -> Bool[Tensor, " models"]:
        """Models that contradict the others."""
        return self.score < CUT * self.median

    @property
    def doubtful(self) -> Bool[Tensor, " models"]:
        """Models that could do with other names."""
        return self.score < DOUBTFUL * self.median


class _Table:
    """Looks as columns, to be summed for any set of trusted models."""

    def __init__(self, looks: Looks, models: int, ways: Tensor):
        self.looks, self.models = looks, models
        chance = 1 / ways[looks.judges]
        self.value = (looks.shares - chance) / (1 - chance)
        classes = int(looks.classes.max()) + 1 if len(looks.classes) else 1
        self.given, self.judged = looks.givers * classes + looks.classes, looks.judges * classes + looks.classes
        self.keys = models * classes

    def _sums(self, key: Tensor, weight: Tensor, size: int) -> tuple[Tensor, Tensor]:
        zeros = torch.zeros(size)
        return zeros.index_add(0, key, weight * self.value), zeros.index_add(0, key, weight)

    def _renown(self, key: Tensor, other: Tensor, middle: float) -> Tensor:
        """Of each look, how the same images fare with other trusted judges (or the same judge with other images)."""
        total, count = self._sums(key, other, self.keys)
        others = total[key] - other * self.value + PRIOR_LOOKS * middle
        return (others / (count[key] - other + PRIOR_LOOKS)).clamp(0.02, 1)

    def scores(self, trusted: Tensor) -> Tensor:
        """Of every model, against the trusted ones."""
        looks, both = self.looks, trusted.float()
        middle = float(self.value[trusted[looks.givers] & trusted[looks.judges]].mean().nan_to_num(0.5))
        sides = []
        for own, partner, key in ((looks.judges, looks.givers, self.given), (looks.givers, looks.judges, self.judged)):
            # Images that nobody recognises say little against a judge, nor does a poor judge against images.
            weight = both[partner] * self._renown(key, both[own], middle)
            total, count = self._sums(own, weight, self.models)
            enough = self.partners(own, partner, trusted) >= PARTNERS_NEEDED
            sides.append(torch.where(enough, total / count, torch.nan))
        return torch.stack(sides).nanmean(0)

    def partners(self, own: Tensor, partner: Tensor, trusted: Tensor) -> Tensor:
        """Of every model, how many trusted partners it has."""
        pairs = torch.unique(own[trusted[partner]] * self.models + partner[trusted[partner]])
        return torch.bincount(pairs // self.models, minlength=self.models)

    def shares(self, trusted: Tensor) -> Tensor:
        """Of every model, the share of images in the claimed class, as giver and as judge."""
        looks, sides = self.looks, []
        for own, partner in ((looks.judges, looks.givers), (looks.givers, looks.judges)):
            weight = trusted[partner].float()
            zeros = torch.zeros(self.models)
            sides.append(zeros.index_add(0, own, weight * looks.shares) / zeros.index_add(0, own, weight))
        return torch.stack(sides).nanmean(0)


def standings(looks: Looks, models: int, ways: Tensor, suspects: Bool[Tensor, " models"]) -> Standings:
    """Remove the worst until none contradicts the rest, so that bad models do not drag down good ones.

    Args:
        looks: see `Looks`.
        models: of the zoo.
        ways: classes of each model.
        suspects: models that are known to be bad.
    """
    table, trusted = _Table(looks, models, ways), ~suspects
    while True:
        score = table.scores(trusted)
        median = _median(score[trusted])
        inside = torch.where(trusted & (score < CUT * median), score, torch.inf)
        few = min(max(1, int(trusted.sum()) // 50), int(inside.isfinite().sum()))
        if not few:
            break
        trusted[inside.topk(few, largest=False).indices] = False
    # Who was sent away early, by partners that were bad themselves, may come back.
    trusted |= ~suspects & (score >= CUT * median)
    score = table.scores(trusted)
    return Standings(score, table.shares(trusted), trusted, _median(score[trusted]))


def _median(values: Tensor) -> float:
    values = values[~values.isnan()]
    return float(values.median()) if len(values) else float("nan")


def misnaming(looks: Looks, judge: int, trusted: Bool[Tensor, " models"], outputs: int) -> tuple[float, dict[int, int]]:
    """Whether other names would suit a model's outputs better.

    Returns:
        By how much the share of images in the right class would grow, and the output of each class then.
    """
    table, count = torch.zeros(outputs, outputs), torch.zeros(outputs)
    for k in looks.of(judge, trusted):
        place = int(looks.places[k])
        table[place] += looks.answers[k]
        count[place] += 1
    table = table / count.clamp(min=1)[:, None]
    known = torch.nonzero(count).flatten().tolist()
    free, found = table.clone(), {}
    free[count == 0] = -1
    for _ in known:  # the clearest first
        row, column = divmod(int(free.argmax()), outputs)
        found[row] = column
        free[row], free[:, column] = -1, -1
    gain = sum(float(table[row, column] - table[row, row]) for row, column in found.items())
    return gain / max(1, len(known)), {row: column for row, column in found.items() if row != column}
