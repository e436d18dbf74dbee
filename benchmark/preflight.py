"""Is this model what the measures take it for? Checked before anything is concluded from it.

A failed check does not stop a run (unless with `--strict`): it is a row of the records, with the remedy.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from metrics import attacks

Check = Callable[[nn.Module, Tensor, Tensor, int], bool]


def _finite(model: nn.Module, x: Tensor, y: Tensor, classes: int) -> bool:
    return bool(model(x).isfinite().all())


def _classes(model: nn.Module, x: Tensor, y: Tensor, classes: int) -> bool:
    return model(x).shape == (len(x), classes)


def _deterministic(model: nn.Module, x: Tensor, y: Tensor, classes: int) -> bool:
    return torch.equal(model(x), model(x))


def _independent(model: nn.Module, x: Tensor, y: Tensor, classes: int) -> bool:
    try:
        together, alone = model(x), torch.cat([model(image[None]) for image in x])
    except ValueError:  # BatchNorm in train mode refuses a single value per channel
        return False
    return torch.allclose(together, alone, rtol=1e-3, atol=1e-3 * float(together.abs().max()))


def _logits(model: nn.Module, x: Tensor, y: Tensor, classes: int) -> bool:
    """Probabilities sum to 1; log-probabilities' exponentials do."""
    out = model(x)
    one = torch.ones(len(x), device=x.device)
    sums = [out.sum(1)] if bool((out >= 0).all()) else [out.exp().sum(1)]
    return not any(torch.allclose(total, one, atol=1e-4) for total in sums)


def _gradient(model: nn.Module, x: Tensor, y: Tensor, classes: int) -> bool:
    images = x.detach().requires_grad_()
    scores = attacks.margin(model(images), y).sum()
    if not scores.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(scores, images, allow_unused=True)
    if gradient is None:  # cut off from the image
        return False
    return bool((gradient.flatten(1).abs().amax(1) > 0).float().mean() > 0.5)


CHECKS: dict[str, tuple[Check, str]] = {
    "finite": (_finite, "outputs are not finite numbers: check the weights and the normalisation"),
    "classes": (
        _classes,
        "the model gives another number of outputs than the data set has classes",
    ),
    "deterministic": (
        _deterministic,
        "two passes differ: turn dropout and noise off, or attack with version = 'rand'",
    ),
    "independent": (
        _independent,
        "an image's output depends on its batch: put BatchNorm in eval mode",
    ),
    "logits": (
        _logits,
        "outputs are probabilities or log-probabilities: leave the softmax out, attacks need logits",
    ),
    "gradient": (
        _gradient,
        "more than half of the input gradients are zero: gradient attacks say nothing here",
    ),
}


def preflight(model: nn.Module, x: Tensor, y: Tensor, classes: int) -> dict[str, str]:
    """Check -> "" if passed, otherwise what is wrong and the remedy. `x` is a handful of images."""
    verdict: dict[str, str] = {}
    for name, (check, remedy) in CHECKS.items():
        # a model of the wrong width would make the later checks crash
        context = torch.enable_grad() if name == "gradient" else torch.no_grad()
        with context:
            verdict[name] = "" if check(model, x, y, classes) else remedy
        if verdict[name] and name in ("finite", "classes"):
            break
    return verdict
