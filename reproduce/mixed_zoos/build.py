"""Put two zoos together from others: several architectures of one domain, and several domains.

    python reproduce/mixed_zoos/build.py --cifar DATA/cifar_fs --conv4 reproduce/zoos/cifar_fs_conv4 \\
        --resnet10 ZOOS/resnet10 --resnet18 ZOOS/resnet18 --cub ZOOS/cub84 --tiny ZOOS/tiny --out ZOOS

The parts are built by `dfml zoo build` (README.md beside this file); five small ViTs are trained here, with timm.
"""

import argparse
from pathlib import Path

import timm
import torch
from torch import nn

from dfml.data import load_data
from dfml.functional.augmentation import shift_and_flip
from dfml.zoo import Zoo, add

VIT = {"img_size": 32, "patch_size": 4, "embed_dim": 96, "depth": 4, "num_heads": 3}
SPEC = {"size": 32, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "crop": 1.0, "interpolation": "bilinear"}
SPEC |= {"width": None}
WAY, TRAINED, EPOCHS, BATCH = 5, 0.8, 15, 64


def train_vit(data, classes: list[int], seed: int) -> tuple[nn.Module, float, int]:
    """A ViT on four fifths of the images of these classes; accuracy on the last fifth, in percent."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=WAY, **VIT)
    parts = [data.images[data.members[c]].float() / 255 for c in classes]
    cut = int(TRAINED * len(parts[0]))
    x, held = torch.cat([p[:cut] for p in parts]), torch.cat([p[cut:] for p in parts])
    y = torch.arange(WAY).repeat_interleave(cut)
    held_y = torch.arange(WAY).repeat_interleave(len(parts[0]) - cut)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    steps = EPOCHS * (len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=steps)
    for step in range(steps):
        if step % (len(x) // BATCH) == 0:
            order = torch.randperm(len(x), generator=generator)
        chosen = order[step % (len(x) // BATCH) * BATCH :][:BATCH]
        images = shift_and_flip(x[chosen], generator)
        optimiser.zero_grad()
        nn.functional.cross_entropy(network((images - 0.5) / 0.25), y[chosen], label_smoothing=0.1).backward()
        optimiser.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        right = (network((held - 0.5) / 0.25).argmax(-1) == held_y).float().mean()
    return network, 100 * float(right), len(held)


def take(zoo: Path, source: Path, count: int, prefix: str) -> None:
    """The first models of another zoo."""
    for number, name in enumerate(Zoo.open(source).ids[:count]):
        if not (zoo / f"{prefix}-{number:02}.json").exists():
            add(zoo, Zoo.open(source).path / f"{name}.json", id=f"{prefix}-{number:02}", shared_classes=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("cifar", "conv4", "resnet10", "resnet18", "cub", "tiny", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    several, domains = given.out / "architectures", given.out / "domains"
    for part in ("conv4", "resnet10", "resnet18"):
        take(several, getattr(given, part), 10, part)
    for part, source in (("cifar", given.conv4), ("cub", given.cub), ("tiny", given.tiny), ("glyphs", Path("glyphs"))):
        take(domains, "glyphs" if part == "glyphs" else source, 10, part)
    data = load_data(given.cifar).train
    for number in range(5):
        if (several / f"vit-{number:02}.json").exists():
            continue
        classes = torch.randperm(len(data.class_names), generator=torch.Generator().manual_seed(number))[:WAY].tolist()
        network, accuracy, n = train_vit(data, classes, number)
        weights = given.out / f"vit-{number}.pth"
        torch.save(network.state_dict(), weights)
        names = [data.class_names[c] for c in classes]
        known = {"mean": accuracy, "n": float(n)}
        options = {"weights": weights, "class_names": names, "images": SPEC, "arguments": VIT, "accuracy": known}
        card = add(several, "timm:vit_tiny_patch16_224", id=f"vit-{number:02}", **options)
        print(card.id, f"{accuracy:.1f} %", *card.findings, flush=True)


if __name__ == "__main__":
    main()
