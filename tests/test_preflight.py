"""Preflight: every check fires for a wrapper that is wrong in its way, and is silent for honest models."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from benchmark.preflight import CHECKS, preflight
from metrics.randomness import Draws

N, CLASSES = 16, 4
X = Draws(0, torch.arange(N)).uniform(1, 6, 6)
Y = torch.arange(N) % CLASSES


class Detached(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x.detach())
        return logits


class Rounded(Detached):
    """Input quantisation: the gradient exists and is 0."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model((4 * x).round() / 4)
        return logits


class Poisoned(Detached):
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return logits.where(torch.arange(len(x))[:, None] != 3, self.value)

    value = torch.nan


class Infinite(Poisoned):
    value = torch.inf


@pytest.fixture(autouse=True)
def own_generator() -> None:
    torch.manual_seed(0)


def small() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, CLASSES)
    ).eval()


def fired(model: nn.Module) -> set[str]:
    return {name for name, remedy in preflight(model, X, Y, CLASSES).items() if remedy}


HONEST = {
    "convolutional": small,
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, CLASSES)),
    "sure of itself": lambda: nn.Sequential(small(), scaled(100.0)),
    "unsure": lambda: nn.Sequential(small(), scaled(1e-3)),
    "all logits positive": lambda: nn.Sequential(small(), nn.Softplus()),
    "all logits negative": lambda: nn.Sequential(small(), nn.Softplus(), scaled(-1.0)),
    "dropout switched off": lambda: nn.Sequential(nn.Dropout(0.5), small()).eval(),
    "group norm": lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.GELU(),
                                        nn.Flatten(), nn.Linear(64, CLASSES)),
}  # fmt: skip


def scaled(factor: float) -> nn.Linear:
    layer = nn.Linear(CLASSES, CLASSES, bias=False)
    with torch.no_grad():
        layer.weight.copy_(factor * torch.eye(CLASSES))
    return layer


def frozen(model: nn.Module) -> nn.Module:
    return model.requires_grad_(False)


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_model_passes_every_check(name: str) -> None:
    verdict = preflight(frozen(HONEST[name]()), X, Y, CLASSES)
    assert verdict == dict.fromkeys(CHECKS, "")


@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (lambda: nn.Sequential(small(), nn.Softmax(1)), {"logits"}),
        (lambda: nn.Sequential(small(), nn.LogSoftmax(1)), {"logits"}),
        (lambda: nn.Sequential(nn.Dropout(0.5), small()), {"deterministic", "independent"}),
        (lambda: small().train(), {"independent"}),
        (lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36), nn.Linear(36, CLASSES)),
         {"independent"}),
        (lambda: Detached(small()), {"gradient"}),
        (lambda: Rounded(small()), {"gradient"}),
        (lambda: Poisoned(small()), {"finite"}),
        (lambda: Infinite(small()), {"finite"}),
        (lambda: nn.Sequential(small(), nn.Linear(CLASSES, CLASSES + 1)), {"classes"}),
        (lambda: nn.Sequential(small(), nn.Linear(CLASSES, CLASSES - 1)), {"classes"}),
    ],
    ids=["softmax", "log-softmax", "dropout on", "BatchNorm in train mode", "BatchNorm1d alone",
         "detached", "rounded input", "NaN", "infinity", "a class too many", "a class too few"],
)  # fmt: skip
def test_a_wrong_wrapper_is_caught(wrong: type, expected: set[str], trainable: bool) -> None:
    model = wrong() if trainable else frozen(wrong())
    assert fired(model) == expected


def test_the_gradient_check_wants_more_than_half_of_the_images() -> None:
    class Partly(nn.Module):
        """The first images' gradients are cut off, the others' are not."""

        def __init__(self, cut: int) -> None:
            super().__init__()
            self.model, self.cut = small(), cut

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.model(torch.cat([x[: self.cut].detach(), x[self.cut :]]))
            return logits

    assert fired(Partly(7)) == set()
    assert fired(Partly(9)) == {"gradient"}


def test_later_checks_are_left_out_where_they_cannot_run() -> None:
    assert list(preflight(Poisoned(small()), X, Y, CLASSES)) == ["finite"]
    wide = nn.Sequential(small(), nn.Linear(CLASSES, CLASSES + 1))
    assert list(preflight(wide, X, Y, CLASSES)) == ["finite", "classes"]


def test_the_verdict_names_the_remedy() -> None:
    verdict = preflight(nn.Sequential(small(), nn.Softmax(1)), X, Y, CLASSES)
    assert "leave the softmax out" in verdict["logits"]
    assert "dropout" in preflight(nn.Sequential(nn.Dropout(), small()), X, Y, 4)["deterministic"]
