"""Labels beside points without overlaps: each takes the first free place around its point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

# above and below right of the point first: there neither of its own interval's lines runs; distances in points
_AROUND = (
    (5, 3, "left", "bottom"),
    (5, -3, "left", "top"),
    (-5, 3, "right", "bottom"),
    (-5, -3, "right", "top"),
    (6, 0, "left", "center"),
    (-6, 0, "right", "center"),
    (0, 6, "center", "bottom"),
    (0, -6, "center", "top"),
)
_PLACES = [
    (dx * far, dy * far, ha, va) for far in (1.0, 1.9, 3.2, 5.0) for dx, dy, ha, va in _AROUND
]
_POINT = 4.0
"""Half the side of the square that a marker keeps free, in pixels at 100 dpi."""

_MISTAKEN = 8
"""What it counts, in covered bars, that a label could be taken for another point's."""
_SPOT = 2
"""What it counts that a small point is covered."""

Bar = list[list[float]]
"""A straight line as its two abscissae and its two ordinates."""


def place_labels(
    axis: Axes,
    labels: Sequence[tuple[float, float, str, str]],
    bars: Sequence[Bar],
    spots: Sequence[tuple[float, float]] = (),
) -> bool:
    """Annotates points (x, y, text, colour); False, with the rest left out, where one finds no place within the axes.

    A label never covers a point or another label; of the places left it takes the one that covers fewest bars and
    small points (`spots`) and is nearer to its own point than to any other. Where it is not, a line leads to its own.
    """
    figure = axis.get_figure(root=True)
    assert isinstance(figure, Figure)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # the layout decides where the points are
    renderer = canvas.get_renderer()
    points = [_square(*axis.transData.transform((x, y))) for x, y, _, _ in labels]
    taken = list(points)
    lines = [_extent(axis, bar) for bar in bars]
    small = [_square(x, y, _POINT / 2) for x, y in map(axis.transData.transform, spots)]
    for own, (x, y, text, colour) in enumerate(labels):
        free: list[tuple[int, int, bool]] = []
        notes = [_note(axis, x, y, text, colour, place) for place in _PLACES]
        boxes = [note.get_window_extent(renderer) for note in notes]
        for i, box in enumerate(boxes):
            if _inside(box, axis.bbox) and not any(box.overlaps(other) for other in taken):
                covered = sum(box.overlaps(line) for line in lines)
                covered += _SPOT * sum(box.overlaps(spot) for spot in small)
                mistaken = _ambiguous(box, taken[own], points)
                free.append((covered + i // len(_AROUND) + _MISTAKEN * mistaken, i, mistaken))
        for note in notes:
            note.remove()
        if not free:
            return False
        _, chosen, mistaken = min(free)
        _note(axis, x, y, text, colour, _PLACES[chosen], leader=mistaken)
        taken.append(boxes[chosen])
    return True


def _ambiguous(box: Bbox, own: Bbox, points: Sequence[Bbox]) -> bool:
    """Whether another point is about as near to a label as its own."""
    mine = _gap(box, own)
    return any(_gap(box, other) < mine + _POINT for other in points if other is not own)


def _gap(a: Bbox, b: Bbox) -> float:
    """The distance between two boxes, 0 where they meet."""
    across = max(a.x0 - b.x1, b.x0 - a.x1, 0.0)
    up = max(a.y0 - b.y1, b.y0 - a.y1, 0.0)
    return float(np.hypot(across, up))


def _note(
    axis: Axes,
    x: float,
    y: float,
    text: str,
    colour: str,
    place: tuple[float, float, str, str],
    leader: bool = False,
) -> Annotation:
    dx, dy, ha, va = place
    line = {"arrowstyle": "-", "color": colour, "lw": 0.5, "shrinkA": 0, "shrinkB": 3}
    note = axis.annotate(
        text,
        (x, y),
        (dx, dy),
        textcoords="offset points",
        ha=ha,
        va=va,
        fontsize=7,
        color=colour,
        zorder=5,
        arrowprops=line if leader else None,
    )
    note.set_in_layout(False)  # a label must not move the axes that it was placed in
    return note


def _extent(axis: Axes, bar: Bar) -> Bbox:
    (x0, y0), (x1, y1) = axis.transData.transform(list(zip(*bar, strict=True)))
    return Bbox.from_extents(x0 - 1, y0 - 1, x1 + 1, y1 + 1)


def _square(x: float, y: float, half: float = _POINT) -> Bbox:
    return Bbox.from_extents(x - half, y - half, x + half, y + half)


def _inside(box: Bbox, room: Bbox) -> bool:
    return box.x0 >= room.x0 and box.x1 <= room.x1 and box.y0 >= room.y0 and box.y1 <= room.y1
