"""All at once against one after the other, and compiled against not: which is faster on this device?

    python benchmarks/batched.py [--device cuda] [--threads 1] [--repeats 3]

What dfml does by itself on a CPU (loops, nothing compiled) and elsewhere (all at once) was chosen by this. Compiled is
what ``--run.compile true`` does: on a CUDA GPU with the kernels in a CUDA graph. Lines go to ``results.jsonl``.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict

import torch

import tasks
from dfml.compute.memory import keep_freed_memory
from dfml.compute.ranks import SERIAL_RANKS
from dfml.learners import LEARNERS
from dfml.methods.consolidate import Consolidate
from dfml.nn import Classifier, Encoder, build_backbone
from dfml.randomness import Rng
from dfml.recovery import MetaGenerator, Visit
from dfml.training.bank import AnswerBank
from dfml.training.replay import meta_gradient
from dfml.zoo import Zoo
from dfml.zoo_building.plan import TRAINING
from dfml.zoo_building.train_one import train_classifier
from dfml.zoo_building.train_together import train_together
from run import KEPT
from timing import Comparison, Side, show, write

TEACHERS, EPISODES, BUILT = 16, 10, 8
LEARNING = {
    "maml-second-order": ("maml", {}),
    "maml-first-order": ("maml", {"second_order": False}),
    "anil": ("anil", {}),
    "protonet": ("protonet", {}),
}


def visits(zoo: Zoo, device: torch.device) -> Comparison:
    """100 images of each of 16 teachers."""
    there = zoo.on(device)
    visits = [Visit(there.teacher(i), tasks.LABELS) for i in zoo.ids[:TEACHERS]]

    def side(engine: str) -> Side:
        recovery = MetaGenerator(adversarial_weight=0.0, engine=engine)
        state = recovery.init(zoo.canvas, Rng(0))
        state.to(device)
        return Side(engine, lambda: recovery.recover(state, visits, rng=Rng(1)))

    return Comparison("visits", side("batched"), [side("loop")], facts={"images": len(visits) * len(tasks.LABELS)})


def episodes(zoo: Zoo, device: torch.device, name: str) -> Comparison:
    """The meta-gradient of ten 5-way 1-shot episodes with 75 queries."""
    kind, options = LEARNING[name]
    torch.manual_seed(0)
    encoder = Encoder(build_backbone("conv4", image_size=32), zoo.canvas)
    learner = LEARNERS[kind](encoder, **options).to(device, memory_format=torch.channels_last)
    bank = tasks.random_bank()
    bank.to(device)
    generators = [Rng(i).generator("episode") for i in range(EPISODES)]
    drawn = [bank.episode(way=5, shot=1, queries=15, generator=generator) for generator in generators]

    def run(together: bool) -> Callable[[], object]:
        return lambda: meta_gradient(learner, drawn.__getitem__, EPISODES, SERIAL_RANKS, together=together)

    together, loop = Side("batched", run(True)), Side("loop", run(False))
    return Comparison(f"episodes-{name}", together, [loop], facts={"episodes": EPISODES})


def zoo_building(zoo: Zoo, device: torch.device) -> Comparison:
    """Eight Conv4 teachers, one epoch of 640 images each."""
    images = torch.randint(0, 256, (BUILT, 640, 3, 32, 32), dtype=torch.uint8, device=device)
    labels = torch.arange(5, device=device).repeat(128).expand(BUILT, -1)
    recipe = {k: v for k, v in asdict(TRAINING["conv4"]).items() if k != "epochs"} | {"epochs": 1}
    rngs = [Rng(i) for i in range(BUILT)]

    def networks() -> list[Classifier]:
        return [Classifier(build_backbone("conv4", image_size=32), 5).to(device) for _ in range(BUILT)]

    def together() -> None:
        train_together(images, labels, networks(), zoo.canvas, rngs=rngs, **recipe)

    def loop() -> None:
        for own, wanted, network, rng in zip(images, labels, networks(), rngs, strict=True):
            train_classifier(own, wanted, network, zoo.canvas, rng=rng, **recipe)

    return Comparison("zoo-building", Side("batched", together), [Side("loop", loop)], facts={"teachers": BUILT})


def compiled(zoo: Zoo, device: torch.device) -> Comparison:
    """Ten updates of consolidation's Conv4-32."""

    def side(name: str, *, compile_it: bool) -> Side:
        method = Consolidate(recovery=MetaGenerator(), updates=10, capacity=1, validation_teachers=0)
        state = method.init(zoo, Rng(0))
        state.bank = AnswerBank(capacity=512, shape=(3, 32, 32), outputs=5 * len(zoo))
        state.bank.add(torch.randint(0, 256, (512, 3, 32, 32), dtype=torch.uint8), torch.randn(512, 5 * len(zoo)))
        state.to(device)
        if compile_it:
            state.compile(device)
        return Side(name, lambda: method.learn(state, Rng(0), updates=method.updates, done=0.5))

    others = [side("not compiled", compile_it=False)]
    return Comparison("compiled-update", side("compiled", compile_it=True), others, facts={"updates": 10})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", default=str(KEPT))
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    zoo = Zoo.open(args.zoo)
    comparisons = [visits(zoo, args.device), *(episodes(zoo, args.device, name) for name in LEARNING)]
    comparisons += [zoo_building(zoo, args.device), compiled(zoo, args.device)]
    named = "" if args.device.type == "cpu" else f"{args.device.type}: "
    lines = [line | {"name": named + line["name"]} for c in comparisons for line in c.lines(args.repeats)]
    write(lines)
    show(lines)


if __name__ == "__main__":
    main()
