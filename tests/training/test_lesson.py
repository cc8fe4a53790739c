"""An update that does not fit into memory is computed in parts."""

import pytest
import torch

from dfml.methods.consolidate import Consolidate
from dfml.randomness import Rng
from dfml.recovery import RECOVERIES
from dfml.training.lesson import Lesson
from toys import ToyZoo, run_steps


class Small(Lesson):
    """On a device that has room for so many images."""

    room = 1000

    def loss(self, pupil, images, wanted, *, all_asked=True):
        if len(images) > self.room:
            raise torch.OutOfMemoryError("full")
        return super().loss(pupil, images, wanted, all_asked=all_asked)


def pupil():
    method = Consolidate(
        recovery=RECOVERIES["drawn_images"](),
        width=4,
        hidden=8,
        images_per_class=4,
        updates=1,
        batch_size=16,
        capacity=200,
    )
    zoo = ToyZoo()
    state = method.init(zoo, Rng(0))
    run_steps(method, state, zoo, 0, 1)
    return state


def update(state, lesson):
    loss = lesson.learn(state, Rng(1), updates=1, done=0.5, all_asked=False)
    return loss, [p.grad.clone() for p in state.student.parameters()]


def test_an_update_in_parts_has_the_gradient_of_the_parts_mean_and_stays_in_parts():
    first, options = pupil(), (16, 1e-2, 2.0, 0.99, 1.0, 1.0)
    second = pupil()
    small = Small(*options)
    small.room = 8
    with pytest.warns(UserWarning, match="no memory for an update of 16 images: in 2 parts"):
        loss, gradients = update(first, small)
    assert small.parts == 2
    halves = []
    for part in range(2):
        images, wanted = second.bank.sample(16, Rng(1).generator("batch", 0))
        second.student.train()
        second.optimiser.zero_grad()
        each = Lesson(*options).loss(second, images.chunk(2)[part], wanted.chunk(2)[part], all_asked=False)
        each.backward()
        halves.append((float(each.detach()), [p.grad.clone() for p in second.student.parameters()]))
    assert loss == pytest.approx((halves[0][0] + halves[1][0]) / 2, rel=1e-5)
    for given, a, b in zip(gradients, halves[0][1], halves[1][1], strict=True):
        torch.testing.assert_close(given, (a + b) / 2, rtol=1e-3, atol=1e-6)


def test_without_room_for_two_images_it_is_said():
    small = Small(16, 1e-2, 2.0, 0.99, 1.0, 1.0)
    small.room = 1
    with pytest.warns(UserWarning, match="in 8 parts"), pytest.raises(torch.OutOfMemoryError):
        update(pupil(), small)
