"""Checks of what comes out: numbers, mode, randomness, precision, logits."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from benchmark.gradient_masking import Finding
from benchmark.preflight._operators import Operators
from benchmark.preflight._subject import PASSED, Subject, found, near
from metrics import attacks


def finite(subject: Subject) -> Finding:
    return found("not-finite", wrong=not bool(subject.logits(subject.few[0]).isfinite().all()))


def class_count(subject: Subject) -> Finding:
    x, _ = subject.few
    return found("class-count", wrong=subject.logits(x).shape != (len(x), subject.classes))


@torch.no_grad()
def input_kept(subject: Subject) -> Finding:
    x = subject.few[0].clone()
    with attacks.frozen(subject.model):
        subject.model(x)
    return found("input-changed", wrong=not torch.equal(x, subject.few[0]))


@torch.no_grad()
def mode(subject: Subject) -> Finding:
    """What is in train mode without effect (a container, a convolution) is left alone."""
    if not any(module.training for module in subject.model.modules()):
        return PASSED
    x, _ = subject.few
    model = copy.deepcopy(subject.model)  # BatchNorm would move its statistics
    try:
        as_it_is = model(x.clone())
    except ValueError:  # BatchNorm in train mode refuses a single value per channel
        return found("train-mode")
    return found("train-mode", wrong=not near(as_it_is, subject.logits(x), 1e-5))


def deterministic(subject: Subject) -> Finding:
    """Noise may come now and then only."""
    one, *others = (subject.logits(subject.few[0]) for _ in range(5))
    return found("random", wrong=not all(near(other, one, 1e-5) for other in others))


def independent(subject: Subject) -> Finding:
    x, _ = subject.few
    try:
        alone = torch.cat([subject.logits(image[None]) for image in x])
    except ValueError:  # as above, if it takes the batch's statistics in eval mode as well
        return found("batch-dependent")
    return found("batch-dependent", wrong=not near(alone, subject.logits(x), 1e-3))


def precision(subject: Subject) -> Finding:
    """Also where 16 bits were made float32 again: at the end (such logits survive the way there and back) or before."""
    with Operators() as seen:
        logits = subject.logits(subject.few[0])
    halves = (torch.float16, torch.bfloat16)
    stored = any(p.dtype in halves for p in subject.model.parameters())
    rounded = any(torch.equal(logits.to(half).to(logits.dtype), logits) for half in halves)
    computed = any(weight.dtype in halves for weight in seen.weights)
    return found("half-precision", wrong=stored or rounded or computed)


def raw_logits(subject: Subject) -> Finding:
    """Probabilities have a constant sum (whatever they are multiplied with, or less a number), the powers of their
    logarithms sum to 1."""
    out = subject.logits(subject.few[0]).float()
    if bool((out >= 0).all()) and len(out) > 1 and near(out.sum(1), out[:1].sum(1), 1e-3):
        return found("probabilities")
    if len(out) > 1 and _moved_probabilities(out):
        return found("probabilities")
    if any(bool(((out * base).logsumexp(1).abs() < 1e-3).all()) for base in _BASES):
        return found("log-probabilities")
    return found("bounded", wrong=bool(((out >= 0) & (out <= 1)).all()))


_BASES = (1.0, math.log(2), math.log(10))


def _moved_probabilities(out: Tensor) -> bool:
    """Whether a constant added to all outputs makes them probabilities."""
    total = out.sum(1, keepdim=True)
    constant = bool(((total - total[:1]).abs() <= 1e-3 * (out.max() - out.min())).all())
    return constant and bool((out + (1 - total) / out.shape[1] >= -1e-6).all())


def batch_norm(subject: Subject) -> Finding:
    def unset(module: _BatchNorm) -> bool:
        mean, variance = module.running_mean, module.running_var
        return (
            mean is not None
            and variance is not None
            and bool((mean == 0).all() & (variance == 1).all())
        )

    norms = [module for module in subject.model.modules() if isinstance(module, _BatchNorm)]
    return found("batch-norm-unset", wrong=any(map(unset, norms)))
