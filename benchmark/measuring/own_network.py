"""A network of the user's own that is to be trained: what a function gives, behind the data set's normalisation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from benchmark.models import _of_code
from benchmark.models._code_spec import own_network
from benchmark.models._shape import Shape
from benchmark.models.base import ModelError, Normalised
from benchmark.models.checkpoint import check_outputs


def own(
    architecture: str, shape: Shape, mean: Sequence[float], std: Sequence[float], seed: int
) -> nn.Module | None:
    """The network of PATH.py:FUNCTION, its weights determined by the seed; none for an architecture of ours.

    ModelError unless it takes the data set's images and gives a logit for each of its classes.
    """
    code = own_network(architecture)
    if code is None:
        return None
    try:
        model = Normalised(_of_code.made(code, seed), mean, std)
        check_outputs(model.eval(), shape)
    except ModelError as error:
        raise ModelError(f"{architecture}: {error}") from None
    return model.train()
