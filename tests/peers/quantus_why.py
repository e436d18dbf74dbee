"""What `quantus_table.py` says in words: up to what a metric is the same in Quantus, and what that does otherwise."""

from __future__ import annotations

from typing import NamedTuple


class Why(NamedTuple):
    """Up to what the two are the same, and what Quantus as shipped does otherwise, with the line of reasoning."""

    to: str
    why: str


_NOTHING = "Nothing on absolute maps; its default takes signed ones as they are."
_BLACK = (
    "Its curves begin after the first step and are not put on a scale of 0..1; \"black\" is the darkest pixel of the "
    "image. Ours has the points of both ends, a fixed colour, and the area. Its `features_in_step` counts channels "
    "but must divide the number of pixels, so that whole pixels of RGB images are reached one channel at a time."
)  # fmt: skip
_ROAD = (
    "Crashes on RGB: maps are repeated over the channels and the imputation is given indices behind the image. "
    "Reports the mean over its first batch alone (below). Does not cut to [0, 1], removes int(p n) pixels where we "
    "round, and gives the order of most relevant first alone."
)
_RANDOM = "random numbers given by us"
WHY: dict[str, Why] = {
    "gini": Why(
        "rounding, and where 1e-7 is added: to the map (theirs), to the map over its mean (ours)",
        "Nothing on maps of usual size; theirs depends on the scale where maps are as small as 1e-7.",
    ),
    "entropy": Why("the factor ln n", "It gives nats, so images of another size are not comparable."),
    "effective_complexity": Why(
        "the definition: ours counts the pixels that hold 90% of the mass; theirs was given, image by image, the "
        "limit at which that is so",
        "It counts values above 1e-5 of the largest value of the whole call: all pixels of nearly every map, and not "
        "as a share of them. The paper minimises over k; so does ours.",
    ),
    "pointing_game": Why(
        "ties: ours gives the share of the largest pixels that lie in the mask, theirs a hit if one does",
        "A constant map among others is a hit, and so is an empty mask (below).",
    ),
    "relevance_mass": Why(
        "rounding", "Nothing on absolute maps; its default takes signed ones as they are, and leaves [0, 1]."
    ),
    "relevance_mass (attribution localisation)": Why("1e-9 in the denominator", _NOTHING),
    "relevance_rank": Why("ties: ours takes the expected number, theirs the order of numpy.argsort", _NOTHING),
    "relevance_rank (top-k intersection)": Why(
        "k: the size of the mask", "k = 1000 unless told otherwise, which small images refuse."
    ),
    "localisation_auc": Why("rounding", _NOTHING),
    "deletion": Why("nothing: every point of the curves", _BLACK),
    "deletion (selectivity)": Why("patches of one pixel", "As above; patches of 8x8, one for a whole digit."),
    "pixel_flipping": Why("nothing: every point of both curves", "As above, and one order alone."),
    "road": Why("the imputation's noise, which is ours, and that it is cut", _ROAD),
    "road (imputation)": Why("our conjugate gradients stop at 1e-6", "As above."),
    "infidelity": Why(
        f"{_RANDOM}; one perturbation a sample",
        "Each patch is blacked out in the image that already lacks the patches before it, and every sample is the "
        "same: not the paper's expectation over perturbations of the image itself. Not scaled, so models differ by the "
        "scale of their logits: ours reports the relative value as headline.",
    ),
    "sensitivity": Why(
        _RANDOM, "A radius of 0.2 where the paper and Captum take 0.02, and 200 samples; maps summed over channels."
    ),
    "local_lipschitz": Why(
        f"{_RANDOM}; maps of length 1",
        "Normal noise of 0.1, and maps over the largest value of the whole call, so that an image's value depends on "
        "the others.",
    ),
    "random_logit": Why(
        "the other class, which we drew; Spearman of absolute maps", "SSIM of the maps laid out as one row of pixels."
    ),
    "cascading_randomisation": Why(
        "new weights drawn by us; Spearman of absolute maps",
        "Its average holds the trained model itself, which is 1 (below); every layer is drawn with the same seed; "
        "from the logits to the input as ours.",
    ),
    "emprt": Why("new weights drawn by us; 100 bins", "Another draw of the weights."),
}  # fmt: skip
