"""Is the model robust, or are its gradients masked? A verdict with reasons, from the shares that `masking` measures.

Two kinds of rule (Athalye, Carlini & Wagner 2018; Carlini et al. 2019): an attack that knows less must not be
stronger, and some shares of images must be near 0. Both are exact tests. What a FAIL rests on has an error of `ALPHA` a
rule, so that no model is condemned by chance; a smaller lead of the weaker attack is a WARN from an error of `DOUBT`
on, so that the verdict says the same of 100 images as of 1,000. Pure functions of numbers; no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from scipy.special import bdtrc

Level = Literal["PASS", "WARN", "FAIL"]
LEVELS: tuple[Level, ...] = ("PASS", "WARN", "FAIL")
"""From good to bad: WARN may be so on purpose, with FAIL what is measured says nothing."""

ALPHA = 1e-3
"""Probability with which a rule accuses a model that only just keeps to it."""

DOUBT = 0.05
"""The same of a WARN for an attack that should be the weaker one."""

LARGE = 0.1
"""Lead in accuracy from which on such an attack is a FAIL."""

ENOUGH = 20
"""Correctly classified images from which on the rules can speak at all."""


class Finding(NamedTuple):
    """What a check found: how bad it is, what it is called, and what to do about it."""

    level: Level
    code: str
    remedy: str


class Share(NamedTuple):
    """A measured share of images."""

    value: float
    n: int

    @property
    def images(self) -> int:
        """How many images these are."""
        return round(self.value * self.n)


class Reason(NamedTuple):
    """A rule that is broken, with the numbers that show it."""

    level: Level
    code: str
    evidence: str
    remedy: str


class Verdict(NamedTuple):
    """The reasons, the worst first, and their worst level; PASS without any."""

    level: Level
    reasons: tuple[Reason, ...]


class Order(NamedTuple):
    """One attack must not be stronger than another one.

    Both run on the same images, so they are compared by McNemar's exact test (1947): of the images that one broke and
    the other did not, as many should be broken by either, or more by the stronger one.
    """

    code: str
    level: Level
    weaker: str
    stronger: str
    only: str
    """The measure with the share of images that only the weaker attack broke."""
    slack: float
    """Difference in accuracy that is no matter, even if it is not chance."""
    names: tuple[str, str]

    def found(self, lead: float, many: int, few: int) -> Level:
        """How bad it is that the weaker attack leads so far, `many` images to `few`; never worse than `level`."""
        if self.level == "FAIL" and lead > LARGE and outnumbers(many, few):
            return "FAIL"
        return "WARN" if lead > self.slack and outnumbers(many, few, DOUBT) else "PASS"


class Limit(NamedTuple):
    """A share of images that must not be larger than this."""

    code: str
    level: Level
    measure: str
    most: float
    claim: str


_FGSM, _PGD20, _PGD100, _WHITE = "FGSM", "PGD-20", "PGD-100", "PGD-100 with both losses"

ORDERS = (
    Order("steps-weaken", "FAIL", "fgsm", "pgd20", "fgsm_only", 0.02, (_FGSM, _PGD20)),
    Order("steps-weaken", "FAIL", "pgd20", "pgd100", "pgd20_only", 0.02, (_PGD20, _PGD100)),
    Order("noise-stronger", "FAIL", "noise", "white_box", "noise_only", 0.02, ("noise", _WHITE)),
    Order("black-box-stronger", "FAIL", "square", "white_box", "square_only", 0.02, ("Square", _WHITE)),
    Order("transfer-stronger", "FAIL", "transfer", "white_box", "transfer_only", 0.02,
          ("another model's PGD", _WHITE)),
    # 3 to 5 points are usual for honest models that were trained with TRADES or MART
    Order("margin-stronger", "WARN", "margin", "pgd100", "margin_only", 0.10,
          ("PGD-100 on the margin", "PGD-100 on the cross-entropy")),
)  # fmt: skip

LIMITS = (
    Limit("masked-images", "WARN", "masked", 0.05, "hold against gradients and break under what knows less"),
    Limit("large-eps-holds", "FAIL", "large_eps", 0.02, "hold against PGD that may make any image"),
    Limit("zero-gradient", "FAIL", "zero_gradient", 0.02, "have a gradient of exactly 0"),
    Limit("saturated", "WARN", "saturated", 0.05,
          "have a gradient of the cross-entropy of exactly 0, that of the margin is not"),
    # as the library's own flag (0.2 points), but not for a single image of 200
    Limit("square-in-autoattack", "WARN", "broken_by_square", 0.002,
          "hold against the gradients of AutoAttack and break under its Square"),
)  # fmt: skip

REMEDIES = {
    "steps-weaken": "the attack is led astray: use restarts and a black-box attack, attack through the defence (BPDA)",
    "noise-stronger": "gradients point nowhere: attack through the defence (BPDA), or by Square with many queries",
    "black-box-stronger": "gradients mislead: report Square or AutoAttack, and attack through the defence (BPDA)",
    "transfer-stronger": "gradients mislead: report the transfer attack, and attack through the defence (BPDA)",
    "margin-stronger": "PGD on the cross-entropy flatters this model: report the margin loss, DLR or AutoAttack",
    "masked-images": "gradients miss these: report Square, or AutoAttack, which has it",
    "large-eps-holds": "at this radius every model must break: the attack cannot see through the model (BPDA, EOT)",
    "zero-gradient": "the model rounds, thresholds or cuts its gradient off: attack through the defence (BPDA)",
    "saturated": "the logits are too large for the cross-entropy in float32: use the margin loss, DLR or AutoAttack",
    "square-in-autoattack": "gradients mislead: look at the masking verdict, attack through the defence (BPDA)",
    "too-few-images": f"measure `masking` on more images, {ENOUGH} of them correctly classified at least",
}


def verdict(measures: Mapping[str, Share]) -> Verdict:
    """The verdict on one model from the measures of `masking` (accuracies and shares of images, each with its n).

    What is not there, or is NaN (no other model to transfer from), is not judged. Where too few images are classified
    correctly, or hold, to show a lead that is there, the verdict is a WARN.
    """
    seen = {name: share for name, share in measures.items() if share.value == share.value}
    once: dict[str, Reason] = {}
    for reason in sorted(
        (*_too_few(seen), *_misordered(seen), *exceeded(seen)),
        key=lambda reason: -LEVELS.index(reason.level),
    ):
        once.setdefault(reason.code, reason)
    return Verdict(worst([reason.level for reason in once.values()]), tuple(once.values()))


def worst(levels: list[Level]) -> Level:
    """The worst of some levels; PASS if there are none."""
    return max(levels, key=LEVELS.index, default="PASS")


def outnumbers(many: int, few: int, error: float = ALPHA) -> bool:
    """Whether `many` of one kind beside `few` of another one are more than chance makes of equal kinds."""
    return many > few and at_least(many, many + few, 0.5) < error


def at_least(least: int, n: int, share: float) -> float:
    """Probability of at least so many of n where this share is true (exact)."""
    return float(bdtrc(least - 1, n, share)) if least > 0 else 1.0


def _too_few(seen: Mapping[str, Share]) -> Iterator[Reason]:
    n = max([share.n for share in seen.values()], default=0)
    clean = seen["clean"].images if "clean" in seen else n
    if n < ENOUGH:
        yield _reason("WARN", "too-few-images", f"{n} images")
    elif clean < ENOUGH:
        yield _reason("WARN", "too-few-images", f"{clean} of {n} images are classified correctly")


def _misordered(seen: Mapping[str, Share]) -> Iterator[Reason]:
    for order in ORDERS:
        if {order.weaker, order.stronger, order.only} <= seen.keys():
            weak, strong, only = (seen[m] for m in (order.weaker, order.stronger, order.only))
            lead, few = strong.value - weak.value, only.images - strong.images + weak.images
            one, other = order.names
            text = f"{one} leaves {weak.value:.1%}, {other} {strong.value:.1%} of {only.n} images"
            level = order.found(lead, only.images, few)
            if level != "PASS":
                yield _reason(level, order.code, text)
            elif lead > order.slack and not outnumbers(strong.images, 0, DOUBT):
                yield _reason(
                    "WARN", "too-few-images", f"{text}: too few hold to tell it from chance"
                )


def exceeded(seen: Mapping[str, Share]) -> Iterator[Reason]:
    """The limits that some measures exceed."""
    for limit in LIMITS:
        if limit.measure in seen:
            share = seen[limit.measure]
            if at_least(share.images, share.n, limit.most) < ALPHA:
                text = f"{share.value:.1%} of {share.n} images {limit.claim}"
                yield _reason(limit.level, limit.code, text)


def _reason(level: Level, code: str, evidence: str) -> Reason:
    return Reason(level, code, evidence, REMEDIES[code])
