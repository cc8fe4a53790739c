import torch
import torch.nn.functional as F

from roofline import Counted


def test_operations_and_bytes_are_counted_and_views_are_free():
    a, b = torch.rand(4, 8), torch.rand(8, 2)
    with Counted() as counted:
        (a @ b).view(-1)[:3]
    assert counted.operations == 2 * 4 * 8 * 2
    assert counted.moved == 4 * (4 * 8 + 8 * 2 + 4 * 2)


def test_a_backward_pass_of_a_convolution_costs_twice_its_forward_pass():
    images, weight = torch.rand(2, 3, 8, 8, requires_grad=True), torch.rand(5, 3, 3, 3, requires_grad=True)
    with Counted() as counted:
        answer = F.conv2d(images, weight, padding=1).sum()
        forward = counted.operations
        torch.autograd.grad(answer, [images, weight])
    assert forward == 2 * 2 * 64 * 27 * 5
    assert counted.operations == 3 * forward
