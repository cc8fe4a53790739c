import torch

from dfml.functional.clustering import k_means, spectral_groups


def _blocks(sizes: list[int], noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Affinity 1 within a block and 0.1 between, shuffled; and the block of each."""
    g = torch.Generator().manual_seed(3)
    kind = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    kind = kind[torch.randperm(len(kind), generator=g)]
    affinity = torch.where(kind[:, None] == kind, 1.0, 0.1)
    random = noise * torch.rand(len(kind), len(kind), generator=g)
    return affinity + (random + random.T) / 2, kind


def test_blocks_of_affinity_are_found():
    affinity, kind = _blocks([7, 5, 9], 0.3)
    found = spectral_groups(affinity, 3)
    assert found.unique().tolist() == [0, 1, 2]
    assert torch.equal(found[:, None] == found, kind[:, None] == kind)
    assert torch.equal(found, spectral_groups(affinity, 3))


def test_by_unlikeness_groups_hold_those_that_are_unlike():
    """Similar tasks of two kinds: grouped by dissimilarity, each group has members of both."""
    similarity, kind = _blocks([12, 12], 0.2)
    similarity = (similarity / similarity.max()).fill_diagonal_(1)
    found = spectral_groups(1 - similarity, 3)
    for group in found.unique().tolist():
        assert kind[found == group].unique().tolist() == [0, 1]


def test_one_group_is_all():
    affinity, _ = _blocks([3, 3], 0.1)
    assert spectral_groups(affinity, 1).tolist() == [0] * 6


def test_k_means_ends_where_every_point_is_at_its_nearest_centre():
    points = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    found = k_means(points, 4)
    centres = torch.stack([points[found == g].mean(0) for g in range(4)])
    assert torch.equal(torch.cdist(points, centres).argmin(1), found)


def test_points_that_coincide_make_fewer_groups():
    points = torch.tensor([[0.0, 0.0]] * 3 + [[1.0, 1.0]] * 2)
    found = k_means(points, 4)
    assert len(found.unique()) == 2
    assert len(found[:3].unique()) == len(found[3:].unique()) == 1
    assert k_means(torch.zeros(1, 2), 3).tolist() == [0]
