import math

import pytest
import torch

from dfml.functional.divergences import grouped_kl_divergence, inner_product_distillation, kl_divergence


def test_kl_equals_the_sum_over_classes_by_hand():
    teacher, student = torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([[0.2, 0.1, 0.4]])
    p = [math.exp(v) / sum(math.exp(u) for u in (1.0, 0.0, -1.0)) for v in (1.0, 0.0, -1.0)]
    q = [math.exp(v) / sum(math.exp(u) for u in (0.2, 0.1, 0.4)) for v in (0.2, 0.1, 0.4)]
    by_hand = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert abs(float(kl_divergence(teacher, student)) - by_hand) < 1e-6


def test_kl_is_zero_on_itself_and_its_minimiser_is_the_teacher():
    teacher = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(kl_divergence(teacher, teacher)) == 0
    student = torch.zeros(6, 5, dtype=torch.float64, requires_grad=True)
    for _ in range(3000):
        (gradient,) = torch.autograd.grad(kl_divergence(teacher, student), student)
        student = (student - 5.0 * gradient).detach().requires_grad_()
    torch.testing.assert_close(student.softmax(-1), teacher.softmax(-1), atol=1e-4, rtol=0)


def test_the_published_distillation_prefers_a_one_hot_answer_to_the_teacher_itself():
    teacher = torch.tensor([[1.0, 0.0, -1.0]])
    one_hot = torch.tensor([[50.0, 0.0, 0.0]])
    assert inner_product_distillation(teacher, one_hot) < inner_product_distillation(teacher, teacher)


def test_unreduced_kl_is_per_sample():
    a, b = torch.randn(4, 3), torch.randn(4, 3)
    each = kl_divergence(a, b, reduce=False)
    assert each.shape == (4,)
    torch.testing.assert_close(each.mean(), kl_divergence(a, b))


@pytest.mark.parametrize("sizes", [(3, 2, 3), (4, 4)])
def test_grouped_divergence_is_the_mean_over_teachers(sizes):
    teacher, student = torch.randn(2, 7, 8)
    pairs = zip(teacher.split(list(sizes), -1), student.split(list(sizes), -1), strict=True)
    expected = torch.stack([kl_divergence(t, s) for t, s in pairs]).mean()
    torch.testing.assert_close(grouped_kl_divergence(teacher, student, sizes), expected)
    assert float(grouped_kl_divergence(teacher, teacher, sizes)) == pytest.approx(0, abs=1e-6)
