"""Free adversarial training: one backward pass for weights and perturbation."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.base import Objective, Setup, Step, from_objective


@from_objective
def free_at(model: nn.Module, setup: Setup, *, replays: Annotated[int, Ge(1)] = 8) -> Objective:
    """Cross-entropy on perturbed images, where each backward pass moves weights and perturbation at once.

    A batch is used several times in a row. Its perturbation, one for each place in the batch, ascends by eps with the
    gradient that the weights descend, and stays for the next batch. So, unlike every other attack here, this one sees
    the model in train mode: BatchNorm couples the images, and its statistics are those of perturbed images.

    Each use of a batch counts as a pass over the data, as in the paper's algorithm: the images are gone through
    epochs / replays times (rounded, at least once), and at equal epochs it has as many optimiser steps as any method,
    as near as whole replays allow (20 epochs are 16 passes with 8 replays, 10 are 8).

    Threat: needed
    Formula: L = CE(f(x + d), y), then d <- Proj(d + eps sign grad_d L); d = 0 before the first step; for L2 the
        gradient of length 1 instead of its sign; Proj onto the ball and [0, 1], anew when the next batch comes
    Args:
        replays: Uses of a batch in a row, an optimiser step each, the paper's m (8 on CIFAR-10, 4 on ImageNet).
    Cost: 1 forward and 1 backward pass per step, as standard training
    Pitfalls: few epochs see the images once or twice (8 epochs: once), each `replays` times in a row. The log has a
        row with its seconds, and a checkpoint to choose, for each time that the images are gone through.
    Paper: Shafahi et al. 2019, "Adversarial training for free!"
    """
    images = setup.train.x
    # the loop may add a last single image to the batch before it
    kept = images.new_zeros(setup.recipe.batch_size + 1, *images.shape[1:])

    def loss(x: Tensor, y: Tensor, step: Step) -> Tensor:
        threat = step.threat
        delta = threat.project(x, kept[: len(x)])
        perturbed = (x + delta).requires_grad_()

        def ascend(gradient: Tensor) -> None:
            kept[: len(x)] = threat.ascend(x, delta, gradient, threat.eps)

        perturbed.register_hook(ascend)  # called within the loop's backward pass
        return F.cross_entropy(model(perturbed), y)

    memory = nn.Module()
    memory.register_buffer("perturbation", kept)
    return Objective(loss, state={"perturbation": memory}, replays=replays)
