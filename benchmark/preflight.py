"""Is this model what the measures take it for? Checked before anything is concluded from it.

A failed check does not stop a run (unless with `--strict`): it is a row of the records, with the remedy. Every check
measures what the model does; none asks what it is called. The model, its statistics and torch's global generator stay
as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from benchmark.gradient_masking import Finding, Level, outnumbers
from metrics import attacks
from metrics.case import in_batches
from metrics.randomness import Draws
from metrics.threat import Linf

FEW = 16
"""Images that are looked at one by one; accuracies are those of all images given."""

PASSED = Finding("PASS", "", "")

REMEDIES: dict[str, tuple[Level, str]] = {
    "not-finite": ("FAIL", "outputs are not finite numbers: check the weights and the normalisation"),
    "class-count": ("FAIL", "the model gives another number of outputs than the data set has classes"),
    "input-changed": ("FAIL", "the model changes its input in place: let it work on a copy"),
    "train-mode": ("FAIL", "parts of the model are in train mode: call model.eval()"),
    "random": ("FAIL", "two passes differ: turn dropout and noise off, or attack with version = 'rand'"),
    "batch-dependent": (
        "FAIL",
        "an image's output depends on its batch: let BatchNorm use running statistics (eval mode)",
    ),
    "half-precision": (
        "WARN",
        "logits have 16 bits at most, which hides small gradients: compute in float32",
    ),
    "probabilities": (
        "FAIL",
        "outputs are probabilities, whose gradients vanish: leave the softmax out, attacks need logits",
    ),
    "log-probabilities": ("WARN", "outputs are log-probabilities: leave the log-softmax out"),
    "detached": ("FAIL", "no gradient reaches the image (detach, no_grad, numpy): gradient attacks say nothing"),
    "zero-gradient": ("FAIL", "more than half of the input gradients are zero: gradient attacks say nothing here"),
    "saturated": (
        "WARN",
        "logits so large that the cross-entropy has no gradient: attack the margin or DLR, or scale them down",
    ),
    "gradient-mismatch": (
        "FAIL",
        "logits do not change as their gradient says (a straight-through or rounded step): gradient attacks are "
        "misled, add a black-box attack",
    ),
    "inner-loop": (
        "FAIL",
        "the forward pass runs backward passes of its own: attack through them, plain attacks overrate such a model",
    ),
    "many-passes": ("WARN", "layers run 3 times or more in a forward pass: a loop in it may hide its gradients"),
    "clean-differs": (
        "FAIL",
        "the logits differ when gradients are asked for, or after an attack of radius 0: the attack and the verdict "
        "would see two models",
    ),
    "batch-norm-unset": ("WARN", "BatchNorm's running statistics were never gathered: was it saved with its buffers?"),
    "expects-0-255": ("FAIL", "the model wants pixels from 0 to 255: divide its own scale by 255"),
    "scaled-by-255": ("FAIL", "the model multiplies by 255 what its network wants in [0, 1]: leave that out"),
    "expects-minus-1-to-1": ("FAIL", "the network wants pixels from -1 to 1: give mean=0.5 and std=0.5"),
    "not-normalised": ("FAIL", "the network wants normalised images: give its mean and std"),
    "normalised-twice": ("FAIL", "images are normalised inside the model and once more: leave one of them out"),
    "inverted": ("FAIL", "the network wants black and white exchanged"),
    "channel-order": ("FAIL", "the network wants the colours in the other order (BGR, not RGB)"),
    "permuted-labels": ("FAIL", "the classes are numbered in another order than the data set's: map the outputs"),
}  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """The model and some labelled images."""

    model: nn.Module
    x: Tensor
    y: Tensor
    classes: int

    @property
    def few(self) -> tuple[Tensor, Tensor]:
        """The first images and their labels."""
        return self.x[:FEW], self.y[:FEW]

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """Outputs in eval mode for a copy of these images."""
        with attacks.frozen(self.model):
            return in_batches(lambda batch: self.model(batch.clone()), x)

    def gradient(self, loss: attacks.Loss, x: Tensor, y: Tensor) -> Tensor:
        """Gradients of a loss at these images."""
        with attacks.frozen(self.model):
            return attacks.input_gradient(lambda images: loss(self.model(images), y), x)


Check = Callable[[Subject], Finding]


def preflight(model: nn.Module, x: Tensor, y: Tensor, classes: int) -> dict[str, Finding]:
    """Check -> what it found.

    The checks of range and labels compare accuracies: with 250 images they see a difference of 5 points, with 16 only
    a complete failure. Checks that make no sense after another one failed are left out.
    """
    subject, found = Subject(model, x, y, classes), dict[str, Finding]()
    # a model that draws random numbers may do so here without moving anybody's
    with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []):
        for name, check in CHECKS.items():
            if all(found.get(other) == PASSED for other in FIRST.get(name, ("finite", "classes"))):
                found[name] = check(subject)
    return found


def _found(code: str, *, wrong: bool = True) -> Finding:
    return Finding(REMEDIES[code][0], code, REMEDIES[code][1]) if wrong else PASSED


def _near(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return torch.allclose(one, other, rtol=tolerance, atol=tolerance * float(other.abs().max()))


def _finite(subject: Subject) -> Finding:
    return _found("not-finite", wrong=not bool(subject.logits(subject.few[0]).isfinite().all()))


def _classes(subject: Subject) -> Finding:
    x, _ = subject.few
    return _found("class-count", wrong=subject.logits(x).shape != (len(x), subject.classes))


@torch.no_grad()
def _input(subject: Subject) -> Finding:
    x = subject.few[0].clone()
    with attacks.frozen(subject.model):
        subject.model(x)
    return _found("input-changed", wrong=not torch.equal(x, subject.few[0]))


@torch.no_grad()
def _mode(subject: Subject) -> Finding:
    """What is in train mode without effect (a container, a convolution) is left alone."""
    if not any(module.training for module in subject.model.modules()):
        return PASSED
    x, _ = subject.few
    model = copy.deepcopy(subject.model)  # BatchNorm would move its statistics
    try:
        as_it_is = model(x.clone())
    except ValueError:  # BatchNorm in train mode refuses a single value per channel
        return _found("train-mode")
    return _found("train-mode", wrong=not _near(as_it_is, subject.logits(x), 1e-5))


def _deterministic(subject: Subject) -> Finding:
    one, other = (subject.logits(subject.few[0]) for _ in range(2))
    return _found("random", wrong=not _near(one, other, 1e-5))


def _independent(subject: Subject) -> Finding:
    x, _ = subject.few
    try:
        alone = torch.cat([subject.logits(image[None]) for image in x])
    except ValueError:  # as above, if it takes the batch's statistics in eval mode as well
        return _found("batch-dependent")
    return _found("batch-dependent", wrong=not _near(alone, subject.logits(x), 1e-3))


def _precision(subject: Subject) -> Finding:
    """Also where 16 bits were made float32 again: such logits survive the way there and back."""
    logits = subject.logits(subject.few[0])
    halves = (torch.float16, torch.bfloat16)
    stored = any(p.dtype in halves for p in subject.model.parameters())
    rounded = any(torch.equal(logits.to(half).to(logits.dtype), logits) for half in halves)
    return _found("half-precision", wrong=stored or rounded)


def _logits(subject: Subject) -> Finding:
    """Probabilities have a constant sum (whatever they are multiplied with), the logarithms' exponentials sum to 1."""
    out = subject.logits(subject.few[0]).float()
    if bool((out >= 0).all()):
        total = out.sum(1)
        return _found("probabilities", wrong=len(out) > 1 and _near(total, total[:1], 1e-3))
    return _found("log-probabilities", wrong=bool((out.logsumexp(1).abs() < 1e-3).all()))


def _gradient(subject: Subject) -> Finding:
    try:
        gradient = subject.gradient(attacks.margin, *subject.few)
    except RuntimeError:  # torch's, if the image takes no part in the logits
        return _found("detached")
    alive = gradient.flatten(1).abs().amax(1) > 0
    return _found("zero-gradient", wrong=bool(alive.float().mean() < 0.5))


def _saturation(subject: Subject) -> Finding:
    losses = (attacks.cross_entropy, attacks.margin)
    sure, alive = (subject.gradient(loss, *subject.few).flatten(1).abs().amax(1) for loss in losses)
    return _found("saturated", wrong=bool(((sure == 0) & (alive > 0)).float().mean() > 0.1))


def _agreement(subject: Subject) -> Finding:
    """The slope along the gradient, by differences, is the gradient's length. The nearer of two step sizes counts:
    the smaller one crosses no kinks, the larger one is above the rounding of float32."""
    x, y = subject.few
    # away from 0 and 1, where models may clamp, and from equal pixels, where max-pooling has a kink
    noise = Draws(0, torch.arange(len(x), device=x.device)).uniform(*x.shape[1:])
    x = 0.85 * x + 0.05 + 0.05 * noise
    gradient = subject.gradient(attacks.margin, x, y)
    length = gradient.flatten(1).norm(dim=1)
    along = gradient / length.clamp_min(1e-30).view(-1, *[1] * (x.dim() - 1))
    rounding = 1e-6 * subject.logits(x).abs().amax(1)

    def error(size: float) -> Tensor:
        above, below = (
            attacks.margin(subject.logits(x + step * along), y) for step in (size, -size)
        )
        rise = size * length
        return (((above - below) / 2 - rise).abs() - rounding).clamp_min(0) / rise

    nearest = torch.stack([error(1e-3), error(1e-2)]).amin(0)
    return _found("gradient-mismatch", wrong=bool(nearest.nanmedian() > 0.2))


def _passes(subject: Subject) -> Finding:
    """Watched while it runs: autograd unpacks saved tensors only in a backward pass, layers tell when they are used."""
    runs: dict[nn.Module, int] = {}
    unpacked: list[Tensor] = []

    def count(module: nn.Module, _: object) -> None:
        runs[module] = runs.get(module, 0) + 1

    def unpack(tensor: Tensor) -> Tensor:
        unpacked.append(tensor)
        return tensor

    layers = [
        m for m in subject.model.modules() if next(m.parameters(recurse=False), None) is not None
    ]
    hooks = [layer.register_forward_pre_hook(count) for layer in layers]
    try:
        with (
            attacks.frozen(subject.model),
            torch.enable_grad(),
            torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, unpack),
        ):
            subject.model(subject.few[0].clone())
    except RuntimeError:  # torch.func's gradients refuse to be watched
        return _found("inner-loop")
    finally:
        for hook in hooks:
            hook.remove()
    if unpacked:
        return _found("inner-loop")
    return _found("many-passes", wrong=max(runs.values(), default=0) >= 3)


def _consistent(subject: Subject) -> Finding:
    x, y = subject.few
    plain = subject.logits(x)
    with attacks.frozen(subject.model), torch.enable_grad():
        watched = subject.model(x.clone().requires_grad_()).detach()
    attacked = subject.logits(attacks.fgsm(subject.model, x, y, Linf(0.0)))
    same = _near(watched, plain, 1e-4) and _near(attacked, plain, 1e-4)
    return _found("clean-differs", wrong=not same)


def _batch_norm(subject: Subject) -> Finding:
    def unset(module: _BatchNorm) -> bool:
        mean, variance = module.running_mean, module.running_var
        return (
            mean is not None
            and variance is not None
            and bool((mean == 0).all() & (variance == 1).all())
        )

    norms = [module for module in subject.model.modules() if isinstance(module, _BatchNorm)]
    return _found("batch-norm-unset", wrong=any(map(unset, norms)))


class Variant(NamedTuple):
    """The images as the network may want them instead: (images, means, standard deviations) -> images."""

    code: str
    change: Callable[[Tensor, Tensor, Tensor], Tensor]


VARIANTS = (
    Variant("normalised-twice", lambda x, mean, std: x * std + mean),
    Variant("normalised-twice", lambda x, mean, std: (x + 1) / 2),
    Variant("not-normalised", lambda x, mean, std: (x - mean) / std),
    Variant("expects-minus-1-to-1", lambda x, mean, std: 2 * x - 1),
    Variant("expects-0-255", lambda x, mean, std: 255 * x),
    Variant("scaled-by-255", lambda x, mean, std: x / 255),
    Variant("inverted", lambda x, mean, std: 1 - x),
    Variant("channel-order", lambda x, mean, std: x.flip(1)),
)


def _range(subject: Subject) -> Finding:
    """FAIL if the model is clearly better on the images in another scale; WARN if it is as good there (to 1 % of the
    images), and only there its first layer sees numbers as they are usual: ReLUs may not mind the scale."""
    x = subject.x
    mean, std = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True).clamp_min(1e-3)
    right, usual = _seen(subject, x)
    others = [(code, *_seen(subject, change(x, mean, std))) for code, change in VARIANTS]
    # a model that knows nothing may gain by always giving the same class
    chance = 1 / subject.classes + 0.1
    better = [
        (expected, int(found.sum()), code)
        for code, found, expected in others
        if found.float().mean() > chance and _clearly_more(found, right)
    ]
    if better:
        return _found(max(better)[2])
    enough = int(right.sum()) - 0.01 * len(x)
    as_good = [code for code, found, expected in others if expected and found.sum() >= enough]
    doubtful = as_good and not usual and bool(right.float().mean() > chance)
    return _found(as_good[0])._replace(level="WARN") if doubtful else PASSED


def _clearly_more(found: Tensor, right: Tensor) -> bool:
    """More right answers than chance makes, and by 5 points."""
    gained, lost = int((found & ~right).sum()), int((right & ~found).sum())
    return outnumbers(gained, lost) and gained - lost >= 0.05 * len(right)


def _seen(subject: Subject, x: Tensor) -> tuple[Tensor, bool]:
    """Which images are right, and whether the first layer sees numbers as they are usual."""
    inputs: list[Tensor] = []
    layers = [m for m in subject.model.modules() if isinstance(m, _ConvNd | nn.Linear)]
    hooks = [
        layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0])) for layer in layers
    ]
    try:
        right = subject.logits(x).argmax(1) == subject.y
    finally:
        for hook in hooks:
            hook.remove()
    return right, not inputs or _usual(inputs[0].float(), x.shape[1])


def _usual(seen: Tensor, channels: int) -> bool:
    """Whether numbers (n, C, ...) are in [0, 1], in [-1, 1], or standardised. Other shapes are not judged."""
    if seen.dim() < 2 or seen.shape[1] % channels:
        return True
    pixels = seen.unflatten(1, (channels, -1)).transpose(0, 1).flatten(1)
    low, high, mean, std = pixels.min(), pixels.max(), pixels.mean(1), pixels.std(1)
    # a little more: resizing overshoots
    bounded = (low > -1.1) & (high < 1.1) & (high - low > 0.5)
    standard = (mean.abs() < 0.5).all() & (std > 0.5).all() & (std < 2).all()
    return bool(bounded | standard)


def _labels(subject: Subject) -> Finding:
    """A permutation of the classes, found on one half of the images, is clearly better than none on the other half."""
    predicted = subject.logits(subject.x).argmax(1)
    half = torch.arange(len(predicted), device=predicted.device) % 2 == 0
    gained = lost = 0
    for fit, test in ((half, ~half), (~half, half)):
        table = torch.zeros(subject.classes, subject.classes)
        table.index_put_(
            (predicted[fit].cpu(), subject.y[fit].cpu()), torch.ones(()), accumulate=True
        )
        # half a count for the order as it is, so that classes without an image stay where they are
        columns = linear_sum_assignment(
            (table + torch.eye(subject.classes) / 2).numpy(), maximize=True
        )[1]
        mapped = torch.from_numpy(columns).to(predicted.device)[predicted[test]]
        gained += int(((mapped == subject.y[test]) & (predicted[test] != subject.y[test])).sum())
        lost += int(((mapped != subject.y[test]) & (predicted[test] == subject.y[test])).sum())
    return _found("permuted-labels", wrong=outnumbers(gained, lost))


CHECKS: dict[str, Check] = {
    "finite": _finite,
    "classes": _classes,
    "input": _input,
    "mode": _mode,
    "deterministic": _deterministic,
    "independent": _independent,
    "precision": _precision,
    "logits": _logits,
    "gradient": _gradient,
    "saturation": _saturation,
    "consistent": _consistent,
    "agreement": _agreement,
    "passes": _passes,
    "batch_norm": _batch_norm,
    "range": _range,
    "labels": _labels,
}
"""In this order."""

FIRST: dict[str, tuple[str, ...]] = {
    "finite": (),
    "classes": ("finite",),
    "independent": ("classes", "deterministic"),
    "gradient": ("classes", "input"),
    "saturation": ("gradient", "logits"),
    "consistent": ("gradient", "deterministic", "independent"),
    "agreement": ("consistent", "logits", "precision"),
    "passes": ("classes", "input"),
    "range": ("classes", "input", "deterministic"),
    "labels": ("classes", "range"),
}
"""Check -> what it takes for granted: checks that must have passed before. Others need the first two."""
