"""First-order attacks, shared by the robustness metrics and by adversarial training.

Attacks move images only: parameters, their gradients and BatchNorm statistics stay as they are (`frozen`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.randomness import Draws
from metrics.threat import ThreatModel

Statistics = Literal["eval", "train"]
"""What an attack's passes do with BatchNorm: use its running statistics, or the batch's (which move them)."""
Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (n, K), labels (n,)) -> what the attacker raises, shape (n,)."""


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """-log p_y, shape (n,), by the log-odds: softmax rounds p_y to 1 where the margin exceeds 17, and what is left of
    the gradient in float32 points elsewhere. By the log-odds it keeps its direction until it underflows, at 100."""
    return -F.logsigmoid(-log_odds_against(logits, y))


def probability(logits: Tensor, y: Tensor) -> Tensor:
    """p_y, shape (n,), with a gradient where it rounds to 1, as `cross_entropy` has."""
    return (-cross_entropy(logits, y)).exp()


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """max_{k != y} z_k - z_y, shape (n,): positive where the image is misclassified, 0 where another class ties."""
    true, others = _split(logits, y)
    return others.amax(1) - true


def log_odds_against(logits: Tensor, y: Tensor) -> Tensor:
    """log (1 - p_y) / p_y, shape (n,): its gradient has the direction of the cross-entropy's, and does not vanish in
    float32 where the model is sure."""
    true, others = _split(logits, y)
    return others.logsumexp(1) - true


def _split(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The true class's logits (n,), and all of them with -inf in its place (n, K); no GPU has to wait for it."""
    at = y[:, None]
    return logits.gather(1, at).squeeze(1), logits.scatter(1, at, -torch.inf)


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio (Croce & Hein 2020), shape (n,): the margin over the gap of the largest to the third.

    It does not change when the logits are scaled. With two classes there is no third, and the margin itself is given.
    """
    if logits.shape[1] < 3:
        return margin(logits, y)
    top = logits.topk(3).values
    return margin(logits, y) / (top[:, 0] - top[:, 2] + 1e-12)


LOSSES: dict[str, Loss] = {"xent": cross_entropy, "margin": margin, "dlr": dlr}
"""`margin` is the loss of Carlini & Wagner (2017), without the confidence that ends it."""


@contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """The model in eval mode, each module's own mode restored afterwards.

    Attacks and input gradients need it: BatchNorm in train mode would mix the samples of a batch and move its
    statistics. What is computed here may be differentiated later, so it sees copies of the statistics: the next
    training pass overwrites them in place, which autograd does not notice.
    """
    training = [module for module in model.modules() if module.training]
    statistics = [(m, name, own) for m in training for name, own in m.named_buffers(recurse=False)]
    model.eval()
    for module, name, own in statistics:
        setattr(module, name, own.clone())
    try:
        yield model
    finally:
        for module, name, own in statistics:
            setattr(module, name, own)
        for module in training:
            module.training = True


def attacked(model: nn.Module, statistics: Statistics) -> AbstractContextManager[nn.Module]:
    """The model as an attack sees it: `frozen`, or in the mode that it is in."""
    return frozen(model) if statistics == "eval" else nullcontext(model)


def needs_float32() -> ValueError:
    """What to raise where a method that differentiates input gradients meets mixed precision."""
    return ValueError(
        "this method differentiates input gradients, which mixed precision would spoil: "
        "set precision = 'float32' in its recipe"
    )


def input_gradients(
    scores: Callable[[Tensor], Tensor], x: Tensor, *, create_graph: bool = False
) -> Tensor:
    """Gradients of several scores per image, `scores(x)` of shape (m, n), with respect to the images: (m, *x.shape).

    Row i of each depends on image i alone, provided that the model does not couple a batch (see `frozen`). With
    `create_graph` the result can itself be differentiated with respect to the parameters (double backpropagation);
    ValueError in mixed precision, which would round those second derivatives away.
    """
    if create_graph and torch.is_autocast_enabled(x.device.type):
        raise needs_float32()
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        rows = scores(x)
        last = len(rows) - 1
        gradients = [
            torch.autograd.grad(
                row.sum(), x, create_graph=create_graph, retain_graph=create_graph or i < last
            )[0]
            for i, row in enumerate(rows)
        ]
    return torch.stack(gradients)


def input_gradient(
    score: Callable[[Tensor], Tensor], x: Tensor, *, create_graph: bool = False
) -> Tensor:
    """Gradient of one score per image, `score(x)` of shape (n,), with respect to the images, shape of x."""
    return input_gradients(lambda images: score(images)[None], x, create_graph=create_graph)[0]


def fgsm(
    model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, loss: Loss = cross_entropy
) -> Tensor:
    """One step of length eps up the loss (Goodfellow et al. 2015), shape of x."""
    with frozen(model):
        gradient = input_gradient(lambda images: loss(model(images), y), x)
    return x + threat.ascend(x, torch.zeros_like(x), gradient, threat.eps)


def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    *,
    steps: int,
    step_size: float,
    loss: Loss = cross_entropy,
    start: Tensor | None = None,
    statistics: Statistics = "eval",
) -> Tensor:
    """Projected gradient ascent on the loss (Madry et al. 2018); the last iterate, shape of x.

    `start` is the first perturbation (for a random start, `threat.noise(x, draws)`), none means zero.
    """
    delta = threat.project(x, torch.zeros_like(x) if start is None else start)
    with attacked(model, statistics):
        for _ in range(steps):
            gradient = input_gradient(lambda images: loss(model(images), y), x + delta)
            delta = threat.ascend(x, delta, gradient, step_size)
    return x + delta


def strongest(model: nn.Module, x: Tensor, y: Tensor, candidates: Iterator[Tensor]) -> Tensor:
    """For each image the candidate with the largest margin against its label: what an evaluation should report."""
    best, best_margin = x.clone(), torch.full((len(x),), -torch.inf, device=x.device)
    for candidate in candidates:
        with torch.no_grad(), frozen(model):
            reached = margin(model(candidate), y)
        better = reached > best_margin
        best[better], best_margin[better] = candidate[better], reached[better]
    return best


def random_start(x: Tensor, threat: ThreatModel, draws: Draws) -> Tensor:
    """A perturbation uniform in the ball, cut to [0, 1]."""
    return threat.project(x, threat.noise(x, draws))
