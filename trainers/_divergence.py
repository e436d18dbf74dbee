"""The divergence of two predictions, and where in the ball it is largest: what TRADES and its relatives share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics import attacks
from trainers.base import Step


def divergence(clean: Tensor, adversarial: Tensor) -> Tensor:
    """KL(p || p') of the predictions of two batches of logits (n, K), per image, shape (n,); at least in float32."""
    # a CPU's autocast leaves it in bfloat16, whose rounding is as large as the divergence of two close predictions
    exact = torch.promote_types(clean.dtype, torch.float32)
    p, q = clean.to(exact).log_softmax(1), adversarial.to(exact).log_softmax(1)
    return F.kl_div(q, p, reduction="none", log_target=True).sum(1)


def most_divergent(
    model: nn.Module, x: Tensor, step: Step, *, steps: int, step_size: float | None
) -> Tensor:
    """Images of the ball whose prediction diverges most from that at x, by PGD from 0.001 N(0, I) cut to [0, 1],
    shape of x.

    The model is in eval mode and float32. A `step_size` of none means 2.5 eps / steps.
    """
    threat = step.threat
    # the first step follows the difference of two predictions that are nearly the same: in bfloat16 it would be noise
    with torch.autocast(x.device.type, enabled=False), attacks.frozen(model):
        clean = model(x).detach()
        return attacks.pgd(
            model, x, clean, threat,
            steps=steps,
            step_size=2.5 * threat.eps / steps if step_size is None else step_size,
            loss=lambda logits, clean: divergence(clean, logits),
            start=0.001 * step.draws.normal(*x.shape[1:]),
        )  # fmt: skip
