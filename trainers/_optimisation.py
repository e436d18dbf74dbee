"""What a recipe's words mean for weights and images: layout, optimiser, rate, averaging, order, augmentation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from metrics.randomness import Draws
from trainers.recipe import Recipe

Tensors = tuple[Tensor, ...] | list[Tensor]

_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def laid_out(model: nn.Module, recipe: Recipe) -> nn.Module:
    """The model with its weights as the recipe's memory format has them; convolutions then pass it on to the images."""
    return model.to(memory_format=_FORMATS[recipe.memory_format])  # type: ignore[call-overload]  # torch's stub


def optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser of the model's parameters."""
    lr, decay = recipe.lr, recipe.weight_decay
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=decay)
    return torch.optim.Adam(model.parameters(), lr=lr, weight_decay=decay)


def averaged(model: nn.Module, recipe: Recipe) -> AveragedModel | None:
    """The moving average of the model's weights and statistics, which starts at the first step; none without decay."""
    if not recipe.ema:
        return None

    def move(average: Tensors, weights: Tensors, updates: Tensor | int) -> None:
        get_ema_multi_avg_fn(decay_at(recipe.ema, int(updates)))(average, weights, updates)

    return AveragedModel(model, multi_avg_fn=move, use_buffers=True)


def decay_at(decay: float, updates: int) -> float:
    """The average's decay after so many updates: less at first, or the untrained weights would stay in it for long."""
    return min(decay, (1 + updates) / (10 + updates))


def set_rate(steps: torch.optim.Optimizer, recipe: Recipe, done: int, of: int) -> None:
    """The learning rate of the step that follows on `done` of all steps: that of its middle.

    Its start would waste the first step on a rate of 0.
    """
    for group in steps.param_groups:
        group["lr"] = recipe.lr * rate(recipe.schedule, (done + 0.5) / of)


def batches(ids: Tensor, recipe: Recipe, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """The images of each batch of an epoch, as places in `ids` (n,)."""
    order = torch.arange(len(ids), device=ids.device)
    if recipe.order == "shuffled":
        order = Draws(seed, ids).fork("order", epoch).uniform(1).squeeze(1).argsort()
    parts = order.split(recipe.batch_size)
    if len(parts) > 1 and len(parts[-1]) == 1:  # BatchNorm cannot train on a single image
        return *parts[:-2], torch.cat(parts[-2:])
    return parts


def rate(schedule: str, progress: float) -> float:
    """Share of the recipe's learning rate at `progress` in 0..1."""
    return {
        "constant": lambda p: 1.0,
        "onecycle": lambda p: p / 0.3 if p < 0.3 else (1 + math.cos(math.pi * (p - 0.3) / 0.7)) / 2,
        "triangular": lambda p: 1 - abs(2 * p - 1),
        "cyclic": lambda p: p / 0.4 if p < 0.4 else (1 - p) / 0.6,
        "piecewise": lambda p: 0.1 ** ((p >= 0.5) + (p >= 0.75)),
    }[schedule](progress)


def augment(how: str, x: Tensor, draws: Draws) -> Tensor:
    """The images as the recipe's `augment` says, by random numbers of their own."""
    if how == "none":
        return x
    n, _, height, width = x.shape
    shift = (draws.fork("shift").uniform(2) * 9).long()
    rows = shift[:, :1] + torch.arange(height, device=x.device)
    columns = shift[:, 1:] + torch.arange(width, device=x.device)
    mirrored = draws.fork("mirror").uniform(1) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    padded = F.pad(x, (4, 4, 4, 4)).permute(0, 2, 3, 1)
    number = torch.arange(n, device=x.device)[:, None, None]
    return padded[number, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
