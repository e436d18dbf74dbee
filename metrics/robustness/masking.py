"""What tells masked gradients from robustness."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from metrics import attacks
from metrics.case import Case, NotApplicable, Scores
from metrics.randomness import Draws
from metrics.robustness._rounds import in_equal_batches
from metrics.robustness.fgsm import fgsm
from metrics.robustness.pgd import pgd
from metrics.robustness.random_noise import random_noise
from metrics.robustness.square import square
from metrics.robustness.transfer import transfer

STEPS = 50
"""Gradient steps of the attack that may make any image."""


def masking(
    case: Case,
    *,
    images: Annotated[int, Ge(1)] = 100,
    queries: Annotated[int, Ge(1)] = 500,
    source: tuple[str, ...] = ("standard",),
) -> Scores:
    """Attacks beside each other whose order must be what it is for honest gradients.

    An attack with more steps, or with knowledge of the model, is stronger where gradients are honest; without a bound
    every image breaks. `benchmark/gradient_masking.py` judges by these shares and the number of images.

    Label: Masked
    Threat: needed
    Formula: 1[PGD-100 on the cross-entropy and on the margin fails, and Square, noise or other models' PGD does not]
    Measures:
        masked (lower, 0..1): Holds against gradients of the model, breaks under an attack that knows less.
        clean (none, 0..1): Correct unchanged.
        fgsm (none, 0..1): Correct after one step.
        pgd20 (none, 0..1): Correct after 20 steps up the cross-entropy.
        pgd100 (none, 0..1): Correct after 100 steps up the cross-entropy, from the same start.
        margin (none, 0..1): Correct after 100 steps up the margin, from the same start.
        white_box (none, 0..1): Correct after both attacks of 100 steps.
        square (none, 0..1): Correct after the Square attack.
        noise (none, 0..1): Correct under 10 draws of uniform noise.
        transfer (none, 0..1): Correct on the adversarial examples of every other model (no score without one).
        fgsm_only (none, 0..1): Broken by FGSM and not by PGD-20.
        pgd20_only (none, 0..1): Broken by PGD-20 and not by PGD-100.
        margin_only (none, 0..1): Broken by PGD-100 on the margin and not on the cross-entropy.
        square_only (none, 0..1): Broken by Square and by no PGD-100.
        noise_only (none, 0..1): Broken by noise and by no PGD-100.
        transfer_only (none, 0..1): Broken by another model's examples and by no PGD-100.
        large_eps (lower, 0..1): Correct after 50 steps up the margin which may lead to any image.
        zero_gradient (lower, 0..1): The gradient of the margin is exactly 0 (or there is none) at the image.
        saturated (lower, 0..1): That of the cross-entropy is 0, that of the margin is not.
    Args:
        images: The first so many images are attacked, the others have no score.
        queries: Forward passes of the Square attack.
        source: The trainers whose models the transferred examples are made on. A robust one (`pgd_at`) beside the
            standard one is the stronger attack on robust models; the model itself is passed over.
    Cost: about 270 gradients, 20 more a source, and up to `queries` forward passes per image; the training of a source
        where the run has none like it
    Pitfalls: finds the usual signs; that there are none proves nothing.
    Paper: Athalye, Carlini & Wagner 2018, "Obfuscated gradients give a false sense of security"; Carlini et al. 2019,
        "On evaluating adversarial robustness"
    """
    if case.needs_threat().eps == 0:
        raise NotApplicable("at eps = 0 there is no attack to mask")
    part = _first(case, images)
    held = {
        "clean": part.grade(part.x),
        "fgsm": fgsm(part),
        "pgd20": pgd(part, steps=20),
        "pgd100": pgd(part, steps=100),
        "margin": pgd(part, steps=100, loss="margin"),
        "square": square(part, queries=queries),
        "noise": random_noise(part),
        "transfer": _transferred(part, source),
    }
    found = _compared({name: scores["robust_accuracy"] for name, scores in held.items()})
    missing = case.x.new_full((len(case.y) - len(part.y),), torch.nan)
    return {
        name: torch.cat([score, missing])
        for name, score in {**found, "large_eps": _at_any_distance(part), **_dead(part)}.items()
    }


class _Connected(nn.Module):
    """The model, its logits tied to the image by a gradient of 0: where there was none at all, attacks see 0."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return logits + 0 * x.flatten(1).sum(1, keepdim=True)


def _first(case: Case, count: int) -> Case:
    """The case of the first images; the harness grades it as part of the whole."""

    def grade(adversarial: Tensor) -> Scores:
        whole = torch.cat([adversarial, case.x[count:]])
        return {name: score[:count] for name, score in case.grade(whole).items()}

    return replace(
        case, model=_Connected(case.model).eval(), x=case.x[:count], y=case.y[:count],
        draws=case.draws[:count], grade=grade,
    )  # fmt: skip


def _transferred(case: Case, sources: tuple[str, ...]) -> Scores:
    """Correct on the examples of every source that is not the model itself; no scores without one."""
    held = []
    for source in sources:
        with suppress(NotApplicable):
            held.append(transfer(case, source=source)["robust_accuracy"])
    nothing = case.x.new_full((len(case.y),), torch.nan)
    return {"robust_accuracy": torch.stack(held).amin(0) if held else nothing}


def _compared(held: dict[str, Tensor]) -> dict[str, Tensor]:
    """Accuracies, and the images that only the attack broke which should be the weaker one."""
    held["white_box"] = held["pgd100"] * held["margin"]
    pairs = {
        "fgsm": "pgd20", "pgd20": "pgd100", "margin": "pgd100",
        "square": "white_box", "noise": "white_box", "transfer": "white_box",
    }  # fmt: skip
    only = {f"{one}_only": held[other] * (1 - held[one]) for one, other in pairs.items()}
    knows_less = [only["square_only"], only["noise_only"], only["transfer_only"].nan_to_num(0)]
    return {"masked": torch.stack(knows_less).amax(0), **held, **only}


def _at_any_distance(case: Case) -> Tensor:
    """Correct although the ball holds every image; from the image itself, where honest gradients lead away from."""
    threat = case.needs_threat()
    ball = type(threat)(float(threat.size(torch.ones_like(case.x[:1]))))

    def attack(x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        return attacks.pgd(
            case.model,
            x,
            y,
            ball,
            steps=STEPS,
            step_size=2.5 * ball.eps / STEPS,
            loss=attacks.margin,
        )

    moved = in_equal_batches(attack, case.x, case.y, case.draws)
    right = [_right(case, images) for images in (case.x, moved)]
    return (right[0] & right[1]).float()


@torch.no_grad()
def _right(case: Case, images: Tensor) -> Tensor:
    def classes(x: Tensor, draws: Draws) -> Tensor:
        found: Tensor = case.model(x).argmax(1)
        return found

    return in_equal_batches(classes, images, case.draws) == case.y


def _dead(case: Case) -> dict[str, Tensor]:
    """Images at which a loss has no gradient."""

    def dead(loss: attacks.Loss) -> Tensor:
        def gradient(x: Tensor, y: Tensor, draws: Draws) -> Tensor:
            return attacks.input_gradient(lambda images: loss(case.model(images), y), x)

        # not "== 0": a NaN leads nowhere either
        gradients = in_equal_batches(gradient, case.x, case.y, case.draws)
        return ~(gradients.flatten(1).abs().amax(1) > 0)

    margin, cross_entropy = dead(attacks.margin), dead(attacks.cross_entropy)
    return {"zero_gradient": margin.float(), "saturated": (cross_entropy & ~margin).float()}
