"""Models that are not dfml's, for tests: built here, saved as their users would save them."""

import torch
from torch import nn

CLASSES = ("ant", "bee", "cow")


class Net(nn.Module):
    """Convolution, BatchNorm, pooling, head."""

    def __init__(self, classes: int = 3, width: int = 6, seed: int = 0, channels: int = 3):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.stem = nn.Conv2d(channels, width, 3, padding=1)
            self.norm = nn.BatchNorm2d(width)
            self.body = nn.Conv2d(width, width, 3, stride=2, padding=1)
            self.fc = nn.Linear(width, classes)
            self.norm.running_mean.uniform_(-0.1, 0.1)
            self.norm.running_var.uniform_(0.5, 1.5)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        return self.fc(torch.relu(self.body(x)).mean((2, 3)))


class Odd(nn.Module):
    """Gives what its ``kind`` says."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind, self.net = kind, Net()

    def forward(self, x):
        logits = self.net(x)
        gives = {
            "probabilities": lambda: logits.softmax(-1),
            "labels": lambda: logits.argmax(-1),
            "one number": lambda: logits[:, :1],
            "maps": lambda: self.net.stem(x),
            "nan": lambda: logits / 0 * 0,
            "random": lambda: logits + torch.rand(3),
            "batch": lambda: logits - logits.mean(0) + logits.mean(),
            "dictionary": lambda: {"scores": logits},
            "frozen": lambda: self.net(x.detach()),
        }
        return gives[self.kind]()


def broken():
    """A function that gives no network."""
    return "no network"
