"""What checks are given, and the codes and remedies of what they find."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.gradient_masking import Finding, Level
from metrics import attacks
from metrics.batching import in_batches

FEW = 16
"""Images that are looked at one by one; accuracies are those of all images given."""

PASSED = Finding("PASS", "", "")

REMEDIES: dict[str, tuple[Level, str]] = {
    "not-finite": ("FAIL", "outputs are not finite numbers: check the weights and the normalisation"),
    "class-count": ("FAIL", "the model gives another number of outputs than the data set has classes"),
    "input-changed": ("FAIL", "the model changes its input in place: let it work on a copy"),
    "train-mode": ("FAIL", "parts of the model are in train mode: call model.eval()"),
    "random": ("FAIL", "two passes differ: turn dropout and noise off, or attack with version = 'rand'"),
    "batch-dependent": (
        "FAIL",
        "an image's output depends on its batch: let BatchNorm use running statistics (eval mode)",
    ),
    "half-precision": (
        "WARN",
        "logits have 16 bits at most, which hides small gradients: compute in float32",
    ),
    "probabilities": (
        "FAIL",
        "outputs are probabilities, whose gradients vanish: leave the softmax out, attacks need logits",
    ),
    "bounded": ("WARN", "all outputs lie in [0, 1], as those of a sigmoid do: leave it out, attacks need logits"),
    "log-probabilities": ("WARN", "outputs are log-probabilities: leave the log-softmax out"),
    "detached": ("FAIL", "no gradient reaches the image (detach, no_grad, numpy): gradient attacks say nothing"),
    "zero-gradient": ("FAIL", "more than half of the input gradients are zero: gradient attacks say nothing here"),
    "saturated": (
        "WARN",
        "logits so large that the cross-entropy has no gradient: attack the margin or DLR, or scale them down",
    ),
    "gradient-mismatch": (
        "FAIL",
        "logits do not change as their gradient says (a straight-through or rounded step): gradient attacks are "
        "misled, add a black-box attack",
    ),
    "inner-loop": (
        "FAIL",
        "the forward pass runs backward passes of its own: attack through them, plain attacks overrate such a model",
    ),
    "many-passes": (
        "WARN",
        "the network runs 3 times or more in a forward pass: a loop in it may hide its gradients",
    ),
    "clean-differs": (
        "FAIL",
        "the logits differ when gradients are asked for, or after an attack of radius 0: the attack and the verdict "
        "would see two models",
    ),
    "batch-norm-unset": ("WARN", "BatchNorm's running statistics were never gathered: was it saved with its buffers?"),
    "expects-0-255": (
        "FAIL",
        "the model is better with pixels from 0 to 255 than in [0, 1]: divide its own scale by 255; if it was trained "
        "in [0, 1], it collapsed there",
    ),
    "scaled-by-255": ("FAIL", "the model multiplies by 255 what its network wants in [0, 1]: leave that out"),
    "expects-minus-1-to-1": ("FAIL", "the network wants pixels from -1 to 1: give mean=0.5 and std=0.5"),
    "not-normalised": ("FAIL", "the network wants normalised images: give its mean and std"),
    "normalised-twice": ("FAIL", "images are normalised inside the model and once more: leave one of them out"),
    "inverted": ("FAIL", "the network wants black and white exchanged"),
    "channel-order": ("FAIL", "the network wants the colours in the other order (BGR, not RGB)"),
    "permuted-labels": ("FAIL", "the classes are numbered in another order than the data set's: map the outputs"),
    "not-above-chance": (
        "WARN",
        "the clean accuracy is not clearly above that of always naming one class: check that the weights are those of "
        "a trained network, the normalisation, and the order of the classes",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """The model and some labelled images."""

    model: nn.Module
    x: Tensor
    y: Tensor
    classes: int

    @property
    def few(self) -> tuple[Tensor, Tensor]:
        """The first images and their labels."""
        return self.x[:FEW], self.y[:FEW]

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """Outputs in eval mode for a copy of these images."""
        with attacks.frozen(self.model):
            return in_batches(lambda batch: self.model(batch.clone()), x)

    def gradient(self, loss: attacks.Loss, x: Tensor, y: Tensor) -> Tensor:
        """Gradients of a loss at these images."""
        with attacks.frozen(self.model):
            return attacks.input_gradient(lambda images: loss(self.model(images), y), x)


def above_chance(classes: int) -> float:
    """Accuracy that no untrained network comes to, in whatever order of the classes or scale of the pixels."""
    return 1 / classes + 0.3


def found(code: str, *, wrong: bool = True) -> Finding:
    return Finding(REMEDIES[code][0], code, REMEDIES[code][1]) if wrong else PASSED


def near(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return torch.allclose(one, other, rtol=tolerance, atol=tolerance * float(other.abs().max()))
