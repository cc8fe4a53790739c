"""Linear CKA against its definition."""

import torch

from dfml.functional.kernel_alignment import kernel_alignment


def test_it_is_the_centred_cross_covariance_over_both_covariances():
    torch.manual_seed(0)
    x, y = torch.randn(20, 3), torch.randn(20, 5)
    a, b = x - x.mean(0), y - y.mean(0)
    wanted = (b.T @ a).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm())
    found = kernel_alignment([x, y])
    torch.testing.assert_close(found[0, 1], wanted)
    torch.testing.assert_close(found, found.T)


def test_a_rotation_a_scale_and_a_shift_change_nothing_and_a_constant_agrees_with_nobody():
    torch.manual_seed(0)
    x = torch.randn(20, 4)
    turn, _ = torch.linalg.qr(torch.randn(4, 4))
    found = kernel_alignment([x, 3 * x @ turn + 1, torch.ones(20, 2)])
    torch.testing.assert_close(found[0, 1], torch.tensor(1.0))
    assert found[2].tolist() == [0.0, 0.0, 0.0]
