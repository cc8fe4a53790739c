import torch

from roofline import Bytes


def test_bytes_are_what_operators_read_and_write_and_views_are_free():
    a, b = torch.rand(4, 8), torch.rand(8, 2)
    with Bytes() as counted:
        c = a @ b
        c.view(-1)[:3]
    assert counted.moved == 4 * (4 * 8 + 8 * 2 + 4 * 2)
