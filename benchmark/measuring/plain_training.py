"""Standard training without what a retraining does not need (a validation, counts of cost, snapshots).

One model, or many of one architecture as one program: a GPU is wider than a small network. Either sees the batches, the
augmentation and the learning rates of `trainers.standard`; one model ends with the very weights of it, many with the
same but for rounding.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator, Sequence
from itertools import repeat

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from metrics.randomness import Draws
from trainers._optimisation import augment, batches, laid_out, optimiser, set_rate
from trainers.base import Diverged, Images
from trainers.recipe import Recipe
from trainers.standard import standard

_log = logging.getLogger(__name__)
MOST = 64
"""How many models are trained together at most."""


class CannotBatch(Exception):
    """These trainings are no one program: the recipe, a layer or the memory forbids it. They can be done one by one."""


def one(model: nn.Module, images: Images, *, recipe: Recipe, seed: int) -> None:
    """Train a model in place and to eval mode, to its last epoch. Diverged if the loss is not finite."""
    if _needs_more(recipe):
        nothing = Images(*(part[:0] for part in images))
        standard(model, images, nothing, recipe=recipe, threat=None, seed=seed)
        return
    laid_out(model, recipe).train()
    steps = optimiser(model, recipe)
    for epoch in range(recipe.epochs):
        for done, of, x, y in _batches(images, recipe, seed, epoch):
            set_rate(steps, recipe, done, of)
            with _precision(recipe, x):
                loss = F.cross_entropy(model(x), y)
            if not math.isfinite(value := loss.item()):
                raise Diverged(
                    f"the loss of a retraining is {value} in epoch {epoch + 1}: lower recipe.lr"
                )
            steps.zero_grad()
            loss.backward()
            steps.step()
    model.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]


def several(
    models: Sequence[nn.Module], sets: Sequence[Images], *, recipe: Recipe, seeds: Sequence[int]
) -> None:
    """Train each model on its images (all of one number and size), in place and to eval mode, as one program.

    CannotBatch leaves the models as they were: an average of weights, a budget of cost, layers that `vmap` refuses
    (random ones), a loss that is not finite. BatchNorm is fine.
    """
    if _needs_more(recipe):
        raise CannotBatch(f"ema = {recipe.ema}, budget = {recipe.budget!r}")
    # all of them before any model is touched: the second half may be no program where the first was one
    for model, weights in zip(models, _weights(models, sets, recipe, seeds), strict=True):
        model.load_state_dict(weights)
        model.eval()


def _weights(
    models: Sequence[nn.Module], sets: Sequence[Images], recipe: Recipe, seeds: Sequence[int]
) -> list[dict[str, Tensor]]:
    """The trained weights and buffers of each, by as few programs as memory allows."""
    half = len(models) // 2
    try:
        stacked = _trained(models, sets, recipe, seeds)
        return [{k: values[i] for k, values in stacked.items()} for i in range(len(models))]
    except torch.OutOfMemoryError:
        if not half:
            raise CannotBatch("too little memory for one") from None
    except RuntimeError as error:
        raise CannotBatch(str(error)) from error
    # not in the handler: the error's frames hold the tensors that did not fit
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    _log.warning("out of memory: %d models are trained in two halves", len(models))
    parts = (slice(half), slice(half, None))
    return [w for p in parts for w in _weights(models[p], sets[p], recipe, seeds[p])]


def _needs_more(recipe: Recipe) -> bool:
    return bool(recipe.ema) or recipe.budget == "cost"


def _trained(
    models: Sequence[nn.Module], sets: Sequence[Images], recipe: Recipe, seeds: Sequence[int]
) -> dict[str, Tensor]:
    """The stacked weights and buffers after the last epoch."""
    parameters, buffers = stack_module_state(list(models))
    network = copy.deepcopy(models[0]).train()
    stacked = nn.ParameterList(parameters.values())
    parameters = dict(zip(parameters, stacked, strict=True))
    steps = optimiser(stacked, recipe)

    def loss(own: dict[str, Tensor], state: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(network, (own, state), (x,)), y)

    for epoch in range(recipe.epochs):
        last = torch.zeros(())
        shown = (_batches(*each, epoch) for each in zip(sets, repeat(recipe), seeds, strict=False))
        for each in zip(*shown, strict=True):
            done, of, _, _ = each[0]
            set_rate(steps, recipe, done, of)
            x, y = (torch.stack([batch[part] for batch in each]) for part in (2, 3))
            with _precision(recipe, x):
                last = vmap(loss)(parameters, buffers, x, y)
            steps.zero_grad()
            last.sum().backward()
            steps.step()
        if not bool(last.isfinite().all()):
            raise CannotBatch(f"the loss of epoch {epoch + 1} is not finite")
    return {**{name: value.detach() for name, value in parameters.items()}, **buffers}


def _precision(recipe: Recipe, x: Tensor) -> torch.autocast:
    low = recipe.precision == "bfloat16"
    return torch.autocast(x.device.type, torch.bfloat16, enabled=low, cache_enabled=False)


def _batches(
    images: Images, recipe: Recipe, seed: int, epoch: int
) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """How many steps were done before, of how many in all, and the batch: images and labels."""
    order = batches(images.ids, recipe, seed, epoch)
    for step, batch in enumerate(order):
        draws = Draws(seed, images.ids[batch]).fork("step", epoch, step)
        x = augment(recipe.augment, images.x[batch], draws)
        yield epoch * len(order) + step, len(order) * recipe.epochs, x, images.y[batch]
