"""One look for all plots: vector text, colours for colour-blind eyes, and a marker each so that grey print works."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from benchmark.report.names import norm_sign, shortened

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "figure.titlesize": 9,
    # names of users are shown as they are: a $ is a $
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#555555",
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "lines.markeredgewidth": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "figure.constrained_layout.use": True,
    # text as text: selectable in the PDF, and accepted by venues which refuse Type 3 fonts
    "pdf.fonttype": 42,
    "svg.hashsalt": "bench",
    "image.interpolation": "nearest",
    "hatch.linewidth": 0.4,
}

# Okabe & Ito (2008) without the yellow, which is lost on white
_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
_LINES: tuple[str | tuple[int, tuple[float, ...]], ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1.2, 1.2)),
    (0, (5, 1.5, 1.2, 1.5)),
)

_INK = 0.62
"""What text keeps of a colour's light."""

GREY = "#8a8a8a"

_HANDLE, _LETTER = 0.5, 0.056
"""Inches that a line of a legend takes besides its name, and a letter of the name."""

NAME_LIMIT = 48


@dataclass(frozen=True)
class Look:
    """How one row of the table looks in every plot."""

    name: str
    color: str
    marker: str
    line: str | tuple[int, tuple[float, ...]]

    @property
    def ink(self) -> str:
        """The colour as text takes it: dark enough to read, and still of the point that it names."""
        red, green, blue = to_rgb(self.color)
        return to_hex((_INK * red, _INK * green, _INK * blue))


def looks(names: Iterable[str], limit: int = NAME_LIMIT) -> dict[str, Look]:
    """Name -> look, distinct for 77 names (7 colours and 11 markers share no factor); longer names are cut."""
    signed = {name: norm_sign(name) for name in names}
    short = shortened(signed.values(), limit)
    return {
        name: Look(
            short[signed[name]],
            _COLOURS[i % len(_COLOURS)],
            _MARKERS[i % len(_MARKERS)],
            _LINES[i % len(_LINES)],
        )
        for i, name in enumerate(signed)
    }


def styled() -> AbstractContextManager[None]:
    """The look, for as long as the context holds; nothing global stays changed."""
    return mpl.rc_context(RC)


def percent(value: float, _: float = 0) -> str:
    """A tick of a share."""
    return f"{100 * value:.6g}%"


def room(figure: Figure) -> int:
    """How long a name a legend of one column has room for, in characters."""
    return int((figure.get_figwidth() - _HANDLE) / _LETTER)


def legend_below(
    figure: Figure, handles: Sequence[Artist], labels: Sequence[str], title: str = ""
) -> None:
    """One legend for all panels, in as many columns as the width takes; the figure grows by its height."""
    inches = _HANDLE + _LETTER * max(len(label) for label in labels)
    columns = max(1, min(len(labels), int(figure.get_figwidth() / inches)))
    rows = -(-len(labels) // columns)
    figure.set_figheight(figure.get_figheight() + 0.1 + 0.165 * rows + 0.11 * title.count("\n"))
    legend = figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        columnspacing=1.4,
        title=title or None,
    )
    legend.get_title().set(size=6.5, color=GREY)
