"""AWP: adversarial training with weights that are perturbed against it as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal, NamedTuple

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from metrics import attacks
from trainers._divergence import divergence, most_divergent
from trainers.base import Step, from_loss


@from_loss
def awp(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    step: Step,
    *,
    on: Literal["pgd_at", "trades"] = "pgd_at",
    gamma: Annotated[float, Ge(0)] | None = None,
    warm_up: Annotated[float, Ge(0), Le(1)] | None = None,
    beta: Annotated[float, Ge(0)] | None = None,
    steps: Annotated[int, Ge(1)] = 10,
    step_size: Annotated[float, Gt(0)] | None = None,
) -> Tensor:
    """The loss of PGD adversarial training or TRADES at weights moved against it, which flattens the loss over weights.

    The adversarial images are made at the weights themselves. Each weight tensor of more than one dimension then moves
    up the loss by gamma of its length, and the loss there gives the step. The ascent sees the model in train mode, as
    the authors' copy of it does; it moves copies of BatchNorm's statistics, the loss's own passes move the model's. The
    attack sees the model in eval mode; the authors' on pgd_at in train mode, on trades in eval mode.

    Label: awp on {on}
    Threat: needed
    Formula: L(w + v), v_l = gamma ||w_l|| g_l / ||g_l||, g = grad_w L(w), v without gradient; L the loss of pgd_at or
        trades
    Args:
        on: The method whose loss it is.
        gamma: Length of the perturbation relative to the weights'; none means the authors' 0.01 on pgd_at, 0.005 on
            trades.
        warm_up: Share of the training without perturbation; none means the authors' 0 on pgd_at, 0.05 (10 epochs of
            200) on trades.
        beta: Weight of the divergence on trades; none means 6, whatever a data set has for `trades` itself. pgd_at has
            none.
        steps: Gradient steps of the attack.
        step_size: Length of a step in pixel units; none means 2.5 eps / steps.
    Cost: on pgd_at steps + 2 forward and backward passes per step, on trades steps + 5 and steps + 4
    Paper: Wu, Xia & Wang 2020, "Adversarial weight perturbation helps robust generalization"
    """
    if on == "pgd_at" and beta is not None:
        raise ValueError(
            f"beta = {beta:g} changes nothing on pgd_at: leave it out, or take on = 'trades'"
        )
    base = _BASES[on]
    adversarial = base.attack(model, x, y, step, steps, step_size)

    def loss(tensors: Mapping[str, Tensor]) -> Tensor:
        """At the model's own parameters and buffers, but for these."""

        def forward(images: Tensor) -> Tensor:
            return functional_call(model, dict(tensors), (images,))

        return base.loss(forward, x, adversarial, y, 6.0 if beta is None else beta)

    if step.progress < (base.warm_up if warm_up is None else warm_up):
        return loss({})
    return loss(_ascended(model, loss, base.gamma if gamma is None else gamma))


def _ascended(
    model: nn.Module, loss: Callable[[Mapping[str, Tensor]], Tensor], gamma: float
) -> dict[str, Tensor]:
    """The weights after the step up the loss; what they are differentiated by is the weights before it."""
    weights = {
        name: weight
        for name, weight in model.named_parameters()
        if weight.dim() > 1 and weight.requires_grad
    }
    statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}
    gradients = torch.autograd.grad(
        loss(statistics), list(weights.values()), materialize_grads=True
    )
    return {
        name: weight + gamma * weight.detach().norm() / (gradient.norm() + 1e-20) * gradient
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
    }


def _pgd(
    model: nn.Module, x: Tensor, y: Tensor, step: Step, steps: int, step_size: float | None
) -> Tensor:
    threat = step.threat
    return attacks.pgd(
        model, x, y, threat,
        steps=steps,
        step_size=2.5 * threat.eps / steps if step_size is None else step_size,
        start=attacks.random_start(x, threat, step.draws),
    )  # fmt: skip


Forward = Callable[[Tensor], Tensor]


def _adversarial_loss(
    forward: Forward, x: Tensor, adversarial: Tensor, y: Tensor, beta: float
) -> Tensor:
    return F.cross_entropy(forward(adversarial), y)


def _trades_loss(
    forward: Forward, x: Tensor, adversarial: Tensor, y: Tensor, beta: float
) -> Tensor:
    logits = forward(x)
    return F.cross_entropy(logits, y) + beta * divergence(logits, forward(adversarial)).mean()


class _Base(NamedTuple):
    """A method whose weights can be perturbed, and the authors' settings for it."""

    attack: Callable[[nn.Module, Tensor, Tensor, Step, int, float | None], Tensor]
    loss: Callable[[Forward, Tensor, Tensor, Tensor, float], Tensor]
    gamma: float
    warm_up: float


_BASES = {
    "pgd_at": _Base(_pgd, _adversarial_loss, gamma=0.01, warm_up=0.0),
    "trades": _Base(
        lambda model, x, y, step, steps, step_size: most_divergent(
            model, x, step, steps=steps, step_size=step_size
        ),
        _trades_loss,
        gamma=0.005,
        warm_up=0.05,
    ),
}
