"""How controls look in every plot: grey, told apart by dashes and shapes, so that they are read as no model's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from benchmark.report.drawing.style import GREY

NAMES = {"random": "random maps", "edge": "edges", "blurred": "the model's maps, blurred"}
LINES = {"random": (0, (3, 2)), "edge": (0, (1, 1.2)), "blurred": (0, (5, 1.5, 1, 1.5))}
MARKERS = {"random": "o", "edge": "s", "blurred": "D"}
_DARK = "#6e6e6e"
"""A line that crosses the shade beyond a front takes a darker grey."""


def draw_controls(axis: Axes, controls: Mapping[str, tuple[float, float]]) -> None:
    """A line across where a control scored the same beside every model, a band from the least to the most otherwise."""
    for name, (least, most) in controls.items():
        if least < most:
            axis.axhspan(least, most, zorder=0.5, **_band(name))
        else:
            axis.axhline(least, zorder=1.5, **_line(name))


def control_handles(controls: Mapping[str, tuple[float, float]]) -> dict[str, Artist]:
    """What was drawn, by the name that a legend gives it."""
    found: dict[str, Artist] = {}
    for name, (least, most) in controls.items():
        if least < most:
            found[f"control: {name} (range)"] = Patch(**_band(name))
        else:
            found[f"control: {name}"] = Line2D([], [], **_line(name))
    return found


def _line(name: str) -> dict[str, Any]:
    return {"color": _DARK, "ls": LINES[name], "lw": 1.1}


def _band(name: str) -> dict[str, Any]:
    # hatched, for what lies beyond a front is shaded
    return {
        "fc": "none",
        "ec": (*to_rgb(GREY), 0.45),
        "ls": LINES[name],
        "lw": 0.7,
        "hatch": "////",
    }
