import pytest
import torch

from dfml.functional.divergences import kl_divergence
from dfml.training.answers import NOT_ASKED, TOP, WHOLE, code_width, coded_divergence, encoded, not_asked

SIZES = [3, 1000, 5, 21_000]


def answers(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return [4 * torch.randn(6, size, generator=generator) for size in SIZES]


def kept(logits):
    return torch.cat([encoded(each, 2.0).half().float() for each in logits], -1)


def test_an_answer_of_many_classes_takes_few_numbers():
    assert [encoded(each, 2.0).shape[1] for each in answers()] == [code_width(size) for size in SIZES]
    assert code_width(WHOLE) == WHOLE
    assert code_width(21_000) == 3 * TOP + 1


def test_what_is_kept_of_many_classes_is_exact_and_the_rest_is_one_class():
    (_, wide, _, _), (_, student, _, _) = answers(0), answers(1)
    teacher, said = (wide / 2).softmax(-1), (student / 2).softmax(-1)
    top = teacher.topk(TOP, -1).indices
    few = torch.cat([teacher.gather(-1, top), 1 - teacher.gather(-1, top).sum(-1, keepdim=True)], -1)
    mine = torch.cat([said.gather(-1, top), 1 - said.gather(-1, top).sum(-1, keepdim=True)], -1)
    wanted = 4 * (few * (few.log() - mine.log())).sum(-1).mean()
    given = coded_divergence(encoded(wide, 2.0), student, [1000], temperature=2.0)
    torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-5)


def test_an_equal_answer_does_not_diverge_in_half_precision():
    logits = answers()
    given = coded_divergence(kept(logits), torch.cat(logits, -1), SIZES, temperature=2.0)
    assert 0 <= float(given) < 1e-3


def test_few_classes_are_kept_whole():
    teacher, student = torch.randn(4, 8), torch.randn(4, 8)
    given = coded_divergence(teacher, student, [3, 5], temperature=2.0)
    parts = zip(teacher.split([3, 5], -1), student.split([3, 5], -1), strict=True)
    wanted = 4 * sum(kl_divergence(t / 2, s / 2) for t, s in parts) / 2
    torch.testing.assert_close(given, wanted)


@pytest.mark.parametrize("missing", [0, 1])
def test_who_was_not_asked_says_nothing_and_moves_nothing(missing):
    logits, student = answers()[:2], torch.cat(answers(1)[:2], -1).requires_grad_()
    coded = [encoded(each, 2.0) for each in logits]
    coded[missing] = not_asked(6, SIZES[missing], torch.device("cpu"))
    given = coded_divergence(torch.cat(coded, -1).half().float(), student, SIZES[:2], temperature=2.0, all_asked=False)
    other = 1 - missing
    own = student.split(SIZES[:2], -1)[other]
    wanted = coded_divergence(encoded(logits[other], 2.0), own, [SIZES[other]], temperature=2.0)
    torch.testing.assert_close(given, wanted, rtol=1e-2, atol=1e-2)
    (gradient,) = torch.autograd.grad(given, student)
    assert gradient.split(SIZES[:2], -1)[missing].abs().sum() == 0
    assert gradient.isfinite().all()


@pytest.mark.parametrize("sizes", [[5, 5, 5], [3, 2, 5]])
def test_of_small_answers_those_given_count_alike(sizes):
    teacher, student = 4 * torch.randn(7, sum(sizes)), torch.randn(7, sum(sizes), requires_grad=True)
    asked = torch.rand(7, 3) < 0.6
    kept = teacher.where(asked.repeat_interleave(torch.tensor(sizes), 1), torch.tensor(NOT_ASKED))
    given = coded_divergence(kept, student, sizes, temperature=2.0, all_asked=False)
    each = [
        kl_divergence(t / 2, s / 2, reduce=False)
        for t, s in zip(teacher.split(sizes, -1), student.split(sizes, -1), strict=True)
    ]
    torch.testing.assert_close(given, 4 * torch.stack(each, -1)[asked].mean())
    (gradient,) = torch.autograd.grad(given, student)
    assert gradient[kept == NOT_ASKED].abs().sum() == 0
