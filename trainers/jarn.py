"""JARN: input gradients that a critic takes for images."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from metrics import attacks
from trainers._optimisation import optimiser
from trainers.base import Objective, Setup, Step, from_objective


@from_objective
def jarn(
    model: nn.Module,
    setup: Setup,
    *,
    weight: Annotated[float, Ge(0)] = 1.0,
    adaptor_weight: Annotated[float, Ge(0)] = 1.0,
    start: Annotated[float, Ge(0), Le(1)] = 0.875,
    critic_every: Annotated[int, Ge(1)] = 20,
    channels: Annotated[int, Ge(1)] = 32,
    noise: Annotated[float, Ge(0)] = 8 / 255,
) -> Objective:
    """Cross-entropy on noisy images, and a critic's failure to tell the input gradients from the images.

    The gradient of the true class's probability, standardised per image, goes through an adaptor (1x1 convolution,
    tanh) to a critic (4x4 convolutions of stride 2, each halving the image: five, or as many as it allows) that learns
    to tell it from the image, while model and adaptor learn to mislead it. Critic and adaptor have the recipe's
    optimiser and learning rate, as the authors' have the classifier's, and step before the model; their critic steps
    after it, their adaptor with it. Input gradients see the model in eval mode, theirs in train mode.

    Formula: L = CE(f(x'), y) - weight CE_D, x' = cut(x + noise U(-1, 1)), CE_D = cross-entropy of D between S(x') (1)
        and S(tanh(conv(S(grad_x softmax_y(f(x')))))) (0), S(v) = v less its mean, of length 1; the adaptor descends
        -adaptor_weight CE_D, D descends CE_D
    Args:
        weight: Weight of the critic's loss, the paper's beta.
        adaptor_weight: Weight of the critic's loss for the adaptor, the paper's gamma. Under Adam, which divides a
            gradient by its size, all weights but 0 are one.
        start: Share of the training on CE alone, the authors' 140,000 of 160,000 steps. Epochs before it are not kept.
        critic_every: Steps of the model for each of the critic. Where it is 1 the critic soon wins, and what it says of
            the gradients no longer changes with them.
        channels: Channels of the critic's first convolution; they double with each.
        noise: Half-width of the uniform noise on the images, in pixel units.
    Cost: 1 forward and 1 backward pass per step; from `start` on 2 forward, 2 backward and 1 double-backward passes and
        up to three of the critic
    Pitfalls: gradients that look like images do not make a model robust: RobustBench has the authors' network at 0.26%
        under AutoAttack where 15.5% was reported (CIFAR-10, Linf 8/255). Never publish PGD-only figures.
    Paper: Chan et al. 2020, "Jacobian adversarially regularized networks for robustness"
    """
    images, recipe = setup.train.x, setup.recipe
    if recipe.precision != "float32":
        raise attacks.needs_float32()
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # not torch.manual_seed, which reseeds the GPUs as well
        torch.default_generator.manual_seed(setup.seed)
        game = _Game(images, channels).to(images)
    players = {"adaptor": optimiser(game.adaptor, recipe), "critic": optimiser(game.critic, recipe)}

    def advance(player: str, share: float, step: Step, x: Tensor, gradient: Tensor) -> None:
        """A step of one player on its share of the critic's loss."""
        for group in players[player].param_groups:
            group["lr"] = step.lr
        players[player].zero_grad()
        parameters = list(getattr(game, player).parameters())
        (share * game(x, gradient)).backward(inputs=parameters)
        players[player].step()

    def loss(x: Tensor, y: Tensor, step: Step) -> Tensor:
        x = (x + noise * (2 * step.draws.fork("noise").uniform(*x.shape[1:]) - 1)).clamp(0, 1)
        if step.progress < start:
            return F.cross_entropy(model(x), y)
        with attacks.frozen(model):
            gradient = attacks.input_gradient(
                lambda x: attacks.probability(model(x), y), x, create_graph=True
            )
        if game.steps % critic_every == 0:
            advance("critic", 1.0, step, x, gradient.detach())
        advance("adaptor", -adaptor_weight, step, x, gradient.detach())
        game.steps += 1
        constant = {name: value.detach() for name, value in game.named_parameters()}
        told_apart = functional_call(game, constant, (x, gradient))
        return F.cross_entropy(model(x), y) - weight * told_apart

    return Objective(loss, state={"game": game, **players}, settled=start)


class _Game(nn.Module):
    """Adaptor and critic: (images, input gradients) -> cross-entropy of the critic between the two."""

    steps: Tensor

    def __init__(self, images: Tensor, channels: int) -> None:
        super().__init__()
        colours, height, width = images.shape[1:]
        self.adaptor = nn.Conv2d(colours, colours, 1)
        # as the authors': after both images are centred a bias is a constant colour, which would drown the gradient
        nn.init.zeros_(self.adaptor.get_parameter("bias"))
        count = min(5, min(height, width).bit_length() - 1)
        sizes = [colours, *(channels * 2**i for i in range(count))]
        self.critic = nn.Sequential()
        for before, after in pairwise(sizes):
            # of the batch alone: the critic is never used outside training
            normal = nn.BatchNorm2d(after, track_running_stats=False)
            self.critic.extend(
                [nn.Conv2d(before, after, 4, stride=2, padding=1), normal, nn.LeakyReLU(0.1)]
            )
        features = sizes[-1] * (height >> count) * (width >> count)
        self.critic.extend([nn.Flatten(), nn.Linear(features, 1)])
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, images: Tensor, gradients: Tensor) -> Tensor:
        """Mean cross-entropy of the critic, scalar."""
        adapted = self.adaptor(_standardised(gradients)).tanh()
        scores = self.critic(_standardised(torch.cat([images, adapted]))).squeeze(1)
        truth = (torch.arange(len(scores), device=scores.device) < len(images)).to(scores)
        return F.binary_cross_entropy_with_logits(scores, truth)


def _standardised(images: Tensor) -> Tensor:
    """Each image less its mean, and of length 1 (shorter if it was nearly constant)."""
    centred = (images - images.mean((1, 2, 3), keepdim=True)).flatten(1)
    return F.normalize(centred, eps=1e-6).view_as(images)
