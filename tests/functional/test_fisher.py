import torch
import torch.nn.functional as F
from torch.func import functional_call

from dfml.functional import fisher
from dfml.functional.fisher import by_filter, diagonal_fisher, task_similarity
from toys import toy_encoder

G = torch.Generator().manual_seed(0)
IMAGES, LABELS = torch.rand(7, 3, 16, 16, generator=G), torch.tensor([0, 1, 2, 0, 1, 2, 2])


def _probe():
    probe = toy_encoder()
    head = torch.randn(3, probe.feature_size, generator=torch.Generator().manual_seed(1))

    def likelihood(parameters, image, label):
        features = functional_call(probe, parameters, (image[None],))
        return F.log_softmax(features @ head.T, -1)[0].gather(0, label[None])[0]

    return probe, head, likelihood


def _gradients(probe, head) -> list[dict[str, torch.Tensor]]:
    """Of each image, by ordinary autograd."""
    each = []
    for image, label in zip(IMAGES, LABELS.tolist(), strict=True):
        value = F.log_softmax(probe(image[None]) @ head.T, -1)[0, label]
        names, parameters = zip(*probe.named_parameters(), strict=True)
        each.append(dict(zip(names, torch.autograd.grad(value, parameters), strict=True)))
    return each


def test_it_is_the_mean_of_each_images_squared_gradient(monkeypatch):
    probe, head, likelihood = _probe()
    each = _gradients(probe, head)
    parameters = {k: p.detach() for k, p in probe.named_parameters()}
    for at_once in (2**22, 1, 3 * sum(p.numel() for p in parameters.values())):
        monkeypatch.setattr(fisher, "AT_ONCE", at_once)
        found = diagonal_fisher(likelihood, parameters, IMAGES, LABELS)
        assert found.keys() == parameters.keys()
        for k, value in found.items():
            wanted = torch.stack([g[k] ** 2 for g in each]).mean(0)
            torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-7 + 1e-5 * float(wanted.max()))


def test_it_is_not_the_square_of_the_mean_gradient():
    probe, head, likelihood = _probe()
    found = diagonal_fisher(likelihood, {k: p.detach() for k, p in probe.named_parameters()}, IMAGES, LABELS)
    each = _gradients(probe, head)
    total = sum(float(v.sum()) for v in found.values())
    assert total > 1.2 * sum(float((torch.stack([g[k] for g in each]).mean(0) ** 2).sum()) for k in found)


def test_filters_are_averaged():
    values = {"conv": torch.arange(24.0).view(2, 3, 2, 2), "bias": torch.tensor([5.0, 7.0])}
    conv, bias = by_filter(values)
    assert conv.tolist() == [sum(range(12)) / 12, sum(range(12, 24)) / 12]
    assert bias.tolist() == [5.0, 7.0]


def test_similarity_is_the_mean_of_the_tensors_normalised_cosines():
    sizes = [4, 1, 3]
    tasks = torch.rand(5, 8, generator=G, dtype=torch.float64) ** 4
    found = task_similarity(tasks, sizes)
    for a, one in enumerate(tasks):
        for b, other in enumerate(tasks):
            cosines = [
                F.cosine_similarity(x / (x + y), y / (x + y), dim=0)
                for x, y in zip(one.split(sizes), other.split(sizes), strict=True)
            ]
            torch.testing.assert_close(found[a, b], torch.stack(cosines).mean())
    torch.testing.assert_close(found, found.T)
    torch.testing.assert_close(found.diagonal(), torch.ones(5, dtype=torch.float64))
    assert float(found.min()) < 0.9


def test_a_task_with_sharper_answers_everywhere_is_the_same_task():
    one = torch.rand(6, generator=G, dtype=torch.float64)
    torch.testing.assert_close(task_similarity(torch.stack([one, 9 * one]), [6])[0, 1].item(), 1.0)


def test_a_task_that_says_nothing_is_like_none():
    found = task_similarity(torch.stack([torch.zeros(4), torch.rand(4, generator=G)]), [2, 2])
    assert bool(found.isfinite().all())
    assert float(found[0, 1]) == 0
