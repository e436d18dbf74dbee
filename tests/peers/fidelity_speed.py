"""Time per image of infidelity and max-sensitivity, ours and Captum's, on the same network, images and perturbations.

    python tests/peers/fidelity_speed.py [IMAGES]

Both sides are given what they batch best: Captum all perturbed copies of 25 images at once, ours its own batches. The
time of ours includes the prediction, the map and the keyed random numbers. Processor time, minimum of three runs, one
thread; numbers of a shared machine are worth as much as their ratio.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from captum.attr import Saliency
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import sensitivity_max
from torch import Tensor, nn

from benchmark.models.base import build
from metrics.attribution import Explained
from metrics.case import Case
from metrics.fidelity.infidelity import infidelity
from metrics.fidelity.sensitivity import sensitivity
from metrics.randomness import Draws

SAMPLES, RADIUS, SIGMA, BATCH = 10, 0.02, 0.2, 25
"""Captum's number of samples and radius; images a call of Captum's."""


def case(model: nn.Module, n: int) -> Case:
    """The network on images of noise: time does not depend on what is in them."""
    ids = torch.arange(n)
    x = Draws(0, ids).uniform(3, 32, 32)
    return Case(
        model=model, x=x, y=ids % 10, draws=Draws(0, ids), train_x=x, train_draws=Draws(0, ids),
        threat=None, classes=10, grade=lambda _: {}, refit=None,  # type: ignore[arg-type]
        manifold=None, surrogate=lambda _: model,  # type: ignore[arg-type]
    )  # fmt: skip


def by_captum(measure: Callable[[Tensor, Tensor], Tensor], c: Case) -> Tensor:
    """A measure of Captum's, given (images, predicted classes), over the images of a case."""
    parts = (c.x[start : start + BATCH] for start in range(0, len(c.x), BATCH))
    return torch.cat([measure(x, c.model(x).argmax(1)) for x in parts])


def their_infidelity(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    def scalar(images: Tensor) -> Tensor:
        return Explained(model, target.repeat_interleave(len(images) // len(x)))(images)

    def perturb(images: Tensor) -> tuple[Tensor, Tensor]:
        taken = SIGMA * torch.randn_like(images)
        return taken, images - taken

    maps = Saliency(Explained(model, target)).attribute(x.clone().requires_grad_(), abs=False)
    return captum_infidelity(scalar, perturb, x, maps, n_perturb_samples=SAMPLES, normalize=True)


def their_sensitivity(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    def maps(images: Tensor | tuple[Tensor]) -> Tensor | tuple[Tensor]:
        own = images[0] if isinstance(images, tuple) else images
        explained = Explained(model, target.repeat_interleave(len(own) // len(x)))
        with torch.enable_grad():
            found = Saliency(explained).attribute(own.detach().requires_grad_(), abs=False)
        return (found,) if isinstance(images, tuple) else found

    return sensitivity_max(maps, x, perturb_radius=RADIUS, n_perturb_samples=SAMPLES)


def seconds(measure: Callable[[], object]) -> float:
    """The least of three runs."""
    times = []
    for _ in range(3):
        began = time.process_time()
        measure()
        times.append(time.process_time() - began)
    return min(times)


def beside_captum(n: int) -> list[tuple[str, float, float]]:
    """(metric, our milliseconds per image, Captum's)."""
    model = build(
        "resnet20", channels=3, classes=10, size=32, mean=(0.5,) * 3, std=(0.25,) * 3, seed=0
    ).eval().requires_grad_(False)  # fmt: skip
    c = case(model, n)
    pairs = {
        "infidelity": (
            lambda: infidelity(c, samples=SAMPLES, sigma=SIGMA),
            lambda: by_captum(lambda x, target: their_infidelity(model, x, target), c),
        ),
        "sensitivity": (
            lambda: sensitivity(c, samples=SAMPLES, radius=RADIUS),
            lambda: by_captum(lambda x, target: their_sensitivity(model, x, target), c),
        ),
    }
    return [(name, *(1e3 * seconds(side) / n for side in sides)) for name, sides in pairs.items()]


def main(n: int) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print(f"resnet20, {n} images of 3x32x32, {SAMPLES} samples, one thread; ms per image")
    print(f"{'':16} {'ours':>8} {'captum':>8} {'captum / ours':>14}")
    for name, own, other in beside_captum(n):
        print(f"{name:16} {own:8.2f} {other:8.2f} {other / own:14.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
