"""Our attacks beside pyautoattack on real checkpoints: the same verdicts, the same strength, how many seconds.

    python tests/peers/attacks.py --data PATH [--images 1000] [--models NAME ...] [--attacks NAME ...] [--queries 5000]
                                  [--seeds 0 1 2 ...]

PATH holds `datasets/` (in torchvision's layout) and `checkpoints/`. Prints Markdown tables. "AutoAttack" is the metric
`auto_attack` beside the library called by hand; the other rows are attacks we write ourselves beside the library's own,
each alone on all images. Both sides are graded by predicting the attacked images again. Their random starts differ, and
so do the images they break: with several seeds a line shows means over them, and the standard error of the difference.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from pyautoattack import AutoAttack
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmark.datasets.load import load as load_data
from benchmark.grading import judge
from benchmark.models import spec
from benchmark.models.checkpoint import load
from metrics.case import Case, Scores
from metrics.randomness import Draws
from metrics.robustness.apgd import apgd
from metrics.robustness.auto_attack import auto_attack
from metrics.robustness.fab import fab
from metrics.robustness.square import square
from metrics.threat import parse

CROWN = "Verified-Intelligence-alpha-beta-CROWN"
SDP = "mean=125.3/255,123.0/255,113.9/255&std=63.0/255,62.1/255,66.7/255"
VNN = "mean=0.4914,0.4822,0.4465&std=0.2470,0.2435,0.2616"
MODELS = {
    "mnist_cnn_a_adv": ("mnist", f"{CROWN}/mnist_cnn_a_adv.model@small_cnn", "Linf 0.3"),
    "mnist_fgsm": ("mnist", "locuslab-fast_adversarial/fgsm.pth@small_cnn", "Linf 0.3"),
    "cifar_cnn_a_adv": ("cifar10", f"{CROWN}/cifar_cnn_a_adv.model@small_cnn?{SDP}", "Linf 2/255"),
    "resnet2b": ("cifar10", f"{CROWN}/resnet2b.pth@resnet2b?{VNN}", "Linf 2/255"),
    "resnet20": (
        "cifar10",
        "akamaster-pytorch_resnet_cifar10/resnet20-12fca82f.th@resnet20"
        "?mean=0.485,0.456,0.406&std=0.229,0.224,0.225&key=state_dict",
        "Linf 1/255",
    ),
}
"""Data set, file, and the threat it was trained against (resnet20: none)."""
OURS: dict[str, Callable[..., Scores]] = {
    "apgd-ce": apgd,
    "apgd-dlr": partial(apgd, loss="dlr"),
    "apgd-t": partial(apgd, loss="targeted"),
    "fab-t": fab,
    "square": square,
}
BATCH = 250


class Row(NamedTuple):
    """One attack, ours and theirs: who still holds (a row a seed), and seconds of all seeds."""

    model: str
    threat: str
    attack: str
    ours: Tensor
    theirs: Tensor
    our_seconds: float
    their_seconds: float

    def line(self) -> str:
        """A line of the table."""
        ours, theirs = (100 * held.float().mean().item() for held in (self.ours, self.theirs))
        differ = int((self.ours != self.theirs).sum())
        by_seed = 100 * (self.ours.float() - self.theirs.float()).mean(1)
        error = f" ± {by_seed.std().item() / len(by_seed) ** 0.5:.2f}" if len(by_seed) > 1 else ""
        return (
            f"| {self.model} | {self.threat} | {self.attack} | {ours:.2f} | {theirs:.2f} | {ours - theirs:+.2f}{error} "
            f"| {differ} | {self.our_seconds:.1f} | {self.their_seconds:.1f} "
            f"| {self.our_seconds / self.their_seconds:.2f} |"
        )


def main() -> None:
    """Every attack on every model, a line as soon as it is known."""
    asked = arguments()
    torch.set_num_threads(asked.threads)
    print(
        f"{asked.images} images, {asked.queries} queries, batches of {BATCH} (theirs), {asked.threads} thread(s), "
        f"{asked.device}, {machine()}, torch {torch.__version__}, seeds {' '.join(map(str, asked.seeds))}\n\n"
        "| model | threat | attack | ours % | theirs % | difference | verdicts that differ | ours s | theirs s | ratio "
        "|\n"
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    )
    rows = []
    for name in asked.models:
        cases = [case_of(name, asked, seed) for seed in asked.seeds]
        for attack in asked.attacks:
            rows.append(together([compared(name, case, attack, asked.queries) for case in cases]))
            print(rows[-1].line(), flush=True)
    print(f"\n{verdict(rows)}")


def compared(name: str, case: Case, attack: str, queries: int) -> Row:
    """One attack on one model, ours first."""
    clock = time.perf_counter if case.x.is_cuda else time.process_time
    began = clock()
    if attack == "autoattack":
        ours = auto_attack(case, queries=queries)
    else:
        ours = OURS[attack](case, **{"queries": queries} if attack == "square" else {})
    between = clock()
    theirs = by_hand(case, attack, queries)
    ended = clock()
    held = ours["robust_accuracy"] > 0
    return Row(
        name, str(case.threat), attack, held[None], theirs[None], between - began, ended - between
    )


def together(rows: list[Row]) -> Row:
    """The rows of several seeds as one."""
    return rows[0]._replace(
        ours=torch.cat([row.ours for row in rows]), theirs=torch.cat([row.theirs for row in rows]),
        our_seconds=sum(row.our_seconds for row in rows), their_seconds=sum(row.their_seconds for row in rows),
    )  # fmt: skip


def by_hand(case: Case, attack: str, queries: int) -> Tensor:
    """Which images hold against the library, called as its README says (one of its attacks, or all)."""
    threat = case.needs_threat()
    adversary = AutoAttack(
        case.model, norm=threat.norm, eps=threat.eps, seed=case.draws.seed, device=case.x.device
    )
    adversary.square.n_queries = queries
    if attack != "autoattack":
        adversary.attacks_to_run = [attack]
    with torch.random.fork_rng([case.x.device] if case.x.is_cuda else []):
        images, _ = adversary.run_standard_evaluation(case.x, case.y, batch_size=BATCH)
    found = judge(case.model, case.x, case.y, threat, images.clamp(0, 1), BATCH)
    return found.clean & ~found.fooled


def case_of(name: str, asked: argparse.Namespace, seed: int) -> Case:
    """A checkpoint and the first test images."""
    data_name, text, threat_text = MODELS[name]
    data = load_data(data_name, asked.data / "datasets")
    model = load(
        spec.parse(f"file:{asked.data}/checkpoints/{text}"),
        channels=data.shape[0], classes=len(data.classes), size=data.shape[2],
    ).model.to(asked.device).eval().requires_grad_(False)  # fmt: skip
    test, threat = data.test[: asked.images].to(asked.device), parse(asked.threat or threat_text)

    def unused(*_: object) -> Tensor:
        raise AssertionError("an attack retrains nothing and knows no manifold")

    return Case(
        model=model, x=test.x, y=test.y, draws=Draws(seed, test.ids), train_x=test.x,
        train_draws=Draws(seed, test.ids), threat=threat, classes=len(data.classes),
        grade=lambda images: judge(model, test.x, test.y, threat, images).scores(),
        refit=unused, manifold=unused, surrogate=unused,
    )  # fmt: skip


def verdict(rows: list[Row]) -> str:
    """What the tables show, in words."""
    path = [row for row in rows if row.attack == "autoattack"]
    own = [row for row in rows if row.attack != "autoattack"]
    differ = sum(int((row.ours != row.theirs).sum()) for row in path)
    weaker = [
        f"{row.model} {row.attack}"
        for row in own
        if (row.ours.float().mean() - row.theirs.float().mean()).item() > 0.002 + 1e-9
    ]
    return (
        f"AutoAttack by the library path: {differ} of {sum(row.ours.numel() for row in path)} verdicts differ.\n"
        f"Own attacks whose accuracy is higher by more than 0.2 point: {', '.join(weaker) or 'none'} (of {len(own)})."
    )


def machine() -> str:
    """The processor, in words."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(
            line.partition(":")[2].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{os.cpu_count()} x {name}"


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of datasets/ and checkpoints/"
    )
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, metavar="NAME", help=f"of {', '.join(MODELS)}",
        default=["mnist_cnn_a_adv", "cifar_cnn_a_adv", "resnet2b"],
    )  # fmt: skip
    parser.add_argument(
        "--attacks", nargs="+", choices=("autoattack", *OURS), metavar="NAME",
        default=["autoattack", *OURS], help=f"of autoattack, {', '.join(OURS)}",
    )  # fmt: skip
    parser.add_argument("--queries", type=int, default=5000, help="of Square")
    parser.add_argument("--threat", help="instead of each model's own, as in 'L2 0.5'")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
