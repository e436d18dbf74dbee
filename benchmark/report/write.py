"""The report of a run: every table in every format, every plot, and the page, written into DIR/report."""

from __future__ import annotations

import io
import sys
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from rich.console import RenderableType
from rich.text import Text

from benchmark.errors import BenchError
from benchmark.report import plots as plots_package
from benchmark.report.citations import bibtex
from benchmark.report.drawing.style import styled
from benchmark.report.files import ENDINGS, PREFIXES, grids, table_files
from benchmark.report.formats.grids import grid_markdown, grid_terminal
from benchmark.report.formats.latex import WIDTH
from benchmark.report.formats.markdown import escape, markdown
from benchmark.report.formats.terminal import terminal as terminal_table
from benchmark.report.names import file_stem
from benchmark.report.origin import data_used, origin
from benchmark.report.page.build import Drawing, page
from benchmark.report.read import Run, read
from benchmark.report.tables.cells import Spread
from benchmark.report.tables.chosen import EVERYTHING
from benchmark.report.tables.sets import all_tables, tables
from benchmark.report.tables.table import Table, table
from benchmark.storage.atomic import write_atomically

FOLDER = "report"
PAGE = "index.html"
_HERE = Path(__file__).parent
_DPI = 200

Plot = Callable[[Run], dict[str, Figure]]
"""Run of one data set -> name of the files -> figure."""

# No date and no version: the same records give the same bytes
_METADATA: dict[str, dict[str, str | None]] = {
    "pdf": {"CreationDate": None, "Producer": None, "Creator": "bridgebench"},
    "png": {"Software": None},
}


def write(
    folder: Path,
    spread: Spread = "interval",
    tell: Callable[[str], None] = lambda line: None,
    textwidth: float = WIDTH,
) -> list[Path]:
    """Reads a run folder, writes its report, and returns the files written.

    `spread`: what stands behind means. `tell` hears of plots that could not be drawn. `textwidth`: the points that
    the tables for LaTeX may fill.
    """
    run = read(folder, spread)
    every = list(all_tables(run))
    drawn = draw(run)
    contents = table_files(run, every, textwidth)
    contents |= {f"{d.stem}.{kind}": content for d in drawn for kind, content in d.files.items()}
    contents["report.md"] = _markdown(run, every, drawn).encode()
    whole = [
        table(part, "all", EVERYTHING) for part in run.by_dataset().values() if len(part.records)
    ]
    contents[PAGE] = page(run, whole, [d.on_page for d in drawn], bibtex(run)).encode()
    written = [_put(folder / FOLDER / name, content) for name, content in contents.items()]
    _remove_stale(folder / FOLDER, contents)
    for failure in (d.failure for d in drawn if d.failure):
        tell(failure)
    return written


def terminal(folder: Path, width: int = 100, spread: Spread = "interval") -> list[RenderableType]:
    """The tables of a run folder for rich's console."""
    run = read(folder, spread)
    short = tables(run, "main")
    if not short:
        return [Text("No records in this run yet.")]
    shown = [part for each in short for part in terminal_table(each, width)]
    return shown + [part for grid in grids(run) for part in grid_terminal(grid, width)]


@dataclass(frozen=True)
class Drawn:
    """A plot of a data set as the bytes of its files, or why there is none."""

    dataset: str
    stem: str
    """The name of the files, without the ending."""
    title: str
    files: dict[str, bytes]
    """Ending -> content; none if drawing failed."""
    failure: str = ""

    @property
    def on_page(self) -> Drawing:
        """As the page holds it."""
        return Drawing(
            self.dataset, self.stem, self.title, self.files.get("png", b""), self.failure
        )


def draw(run: Run) -> list[Drawn]:
    """Every plot that the run has data for, data set by data set; those that fail have a line instead of files."""
    with styled(), warnings.catch_warnings():
        # a sign that the bundled font lacks shows as a box; the tables have it
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        return [
            drawn
            for dataset, part in run.by_dataset().items()
            for plot in plots()
            for drawn in _drawn(plot, dataset, part)
        ]


def _drawn(plot: Plot, dataset: str, part: Run) -> Iterator[Drawn]:
    """The figures of a plot. What is wrong with one must not take the tables with it, which need none."""
    try:
        for stem, figure in plot(part).items():
            yield Drawn(dataset, stem, _title(plot), images(figure))
    except BenchError:  # of the folder, and not of the plot
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        at = [frame for frame in frames if _HERE in Path(frame.filename).parents][-1]
        what = f"{type(error).__name__}: {error} ({Path(at.filename).name}, line {at.lineno})"
        line = f"The plot {plot.__name__} of {dataset} could not be drawn: {what}"
        yield Drawn(dataset, plot.__name__, _title(plot), {}, line)


def _title(plot: Plot) -> str:
    """What a plot shows: the first sentence of its file."""
    return (sys.modules[plot.__module__].__doc__ or "").partition("\n")[0]


def plots() -> list[Plot]:
    """The plots, found by their place: each file's function of its own name."""
    names = sorted(module.name for module in iter_modules(plots_package.__path__))
    return [getattr(import_module(f"{plots_package.__name__}.{name}"), name) for name in names]


def images(figure: Figure) -> dict[str, bytes]:
    """A figure as the bytes of a PDF and a PNG file, the same at every call."""
    FigureCanvasAgg(figure)
    # hinted letters are wider at some sizes than at others: as wide as in the file
    figure.set_dpi(_DPI)
    # laid out and measured once: again for every format would cost most of the time
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    extent = figure.get_tightbbox().padded(0.04)
    return {kind: _bytes(figure, kind, extent) for kind in _METADATA}


def _bytes(figure: Figure, kind: str, extent: Bbox) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=_DPI, bbox_inches=extent, metadata=_METADATA[kind])
    return out.getvalue()


def _markdown(run: Run, tables: list[Table], drawn: list[Drawn]) -> str:
    """The report in Markdown: the data, the tables, the plots, where they come from."""
    title = (
        f"# Report: {escape(str(run.manifest['suite']))}" if "suite" in run.manifest else "# Report"
    )
    used = {table.dataset: data_used(run.manifest, table.dataset) for table in tables}
    data = [f"- {escape(name)}: {escape(text)}" for name, text in used.items() if text]
    body = [markdown(table) for table in tables] or ["No records in this run yet."]
    shown = [escape(d.failure) if d.failure else f"![{d.stem}]({d.stem}.png)" for d in drawn]
    facts = [f"- {escape(fact)}" for fact in origin(run.manifest)]
    end = ["## Origin", "\n".join(facts)] if facts else []
    blocks = [
        title,
        f"The same to sort, filter and point at: [{PAGE}]({PAGE})",
        "\n".join(data),
        *body,
        *map(grid_markdown, grids(run)),
        *shown,
        *end,
    ]
    return "\n\n".join(block for block in blocks if block).rstrip() + "\n"


def _put(path: Path, content: bytes) -> Path:
    write_atomically(path, lambda file: file.write_bytes(content))
    return path


def _remove_stale(folder: Path, current: Collection[str]) -> None:
    """Tables and plots of an earlier report that this one has not: of a data set or a model set that is gone."""
    ours: list[tuple[str, tuple[str, ...]]] = [(prefix, ENDINGS) for prefix in PREFIXES]
    ours += [
        (file_stem(plot.__name__.replace("_", "-")) + "-", (".pdf", ".png")) for plot in plots()
    ]
    for path in folder.iterdir():
        known = any(path.name.startswith(a) and path.name.endswith(z) for a, z in ours)
        if known and path.name not in current and path.is_file() and not path.is_symlink():
            path.unlink()
