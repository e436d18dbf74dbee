"""The report of a run: every table in every format and every plot, written into DIR/report."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Collection
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import RenderableType
from rich.text import Text

from benchmark.report import health, published
from benchmark.report import plots as plots_package
from benchmark.report.cost import cost_tables
from benchmark.report.formats.latex import latex, latex_document
from benchmark.report.formats.markdown import escape, markdown
from benchmark.report.formats.terminal import terminal as terminal_table
from benchmark.report.formats.tidy_csv import tidy_csv
from benchmark.report.names import file_stem
from benchmark.report.origin import data_used, origin
from benchmark.report.read import Run, read
from benchmark.report.style import styled
from benchmark.report.table import Table, main_tables
from benchmark.store import write_atomically

FOLDER = "report"
_DPI = 200

# No date and no version: the same records give the same bytes
_METADATA: dict[str, dict[str, str | None]] = {
    "pdf": {"CreationDate": None, "Producer": None, "Creator": "bridgebench"},
    "png": {"Software": None},
}


def write(folder: Path) -> list[Path]:
    """Reads a run folder, writes its report, and returns the files written."""
    run = read(folder)
    tables, costs = main_tables(run), cost_tables(run.trainings)
    figures = draw(run)
    contents: dict[str, bytes] = {}
    for kind, table in [*(("table", each) for each in tables), *(("cost", each) for each in costs)]:
        stem = file_stem(kind, table.dataset)
        contents |= {
            f"{stem}.tex": latex(table).encode(),
            f"{stem}-standalone.tex": latex_document(table).encode(),
            f"{stem}.csv": tidy_csv(table).encode(),
        }
    contents |= {
        f"{file_stem('health', name)}.csv": text.encode()
        for name, text in health.tidy_csv(run).items()
    }
    contents |= figures
    contents["report.md"] = _page(
        run, tables, costs, [name for name in figures if name.endswith(".png")]
    ).encode()
    written = [_put(folder / FOLDER / name, content) for name, content in contents.items()]
    _remove_stale(folder / FOLDER, contents)
    return written


def terminal(folder: Path, width: int = 100) -> list[RenderableType]:
    """The tables of a run folder for rich's console."""
    run = read(folder)
    tables = main_tables(run)
    if not tables:
        return [Text("No records in this run yet.")]
    shown = [part for table in tables for part in terminal_table(table, width)]
    return shown + published.terminal(run) + health.terminal(run)


def draw(run: Run) -> dict[str, bytes]:
    """File name -> content of every plot that the run has data for."""
    with styled(), warnings.catch_warnings():
        # a sign that the bundled font lacks shows as a box; the tables have it
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        return {
            f"{stem}.{kind}": content
            for plot in plots()
            for stem, figure in plot(run).items()
            for kind, content in images(figure).items()
        }


def plots() -> list[Callable[[Run], dict[str, Figure]]]:
    """The plots, found by their place: each file's function of its own name."""
    names = sorted(module.name for module in iter_modules(plots_package.__path__))
    return [getattr(import_module(f"{plots_package.__name__}.{name}"), name) for name in names]


def images(figure: Figure) -> dict[str, bytes]:
    """A figure as the bytes of a PDF and a PNG file, the same at every call."""
    FigureCanvasAgg(figure).draw()
    figure.set_layout_engine(
        "none"
    )  # laid out by now; again for every format would cost most of the time
    return {kind: _bytes(figure, kind) for kind in _METADATA}


def _bytes(figure: Figure, kind: str) -> bytes:
    out = io.BytesIO()
    figure.savefig(
        out, format=kind, dpi=_DPI, bbox_inches="tight", pad_inches=0.04, metadata=_METADATA[kind]
    )
    return out.getvalue()


def _page(run: Run, tables: list[Table], costs: list[Table], pictures: list[str]) -> str:
    """The report in Markdown: the data, the tables, the plots, where they come from."""
    title = (
        f"# Report: {escape(str(run.manifest['suite']))}" if "suite" in run.manifest else "# Report"
    )
    used = {table.dataset: data_used(run.manifest, table.dataset) for table in tables}
    data = [f"- {escape(name)}: {escape(text)}" for name, text in used.items() if text]
    body = [markdown(table) for table in tables] or ["No records in this run yet."]
    spent = [markdown(table) for table in costs]
    shown = [f"![{name.removesuffix('.png')}]({name})" for name in pictures]
    facts = [f"- {escape(fact)}" for fact in origin(run.manifest)]
    end = ["## Origin", "\n".join(facts)] if facts else []
    blocks = [
        title,
        "\n".join(data),
        *body,
        published.markdown(run),
        health.markdown(run),
        *spent,
        *shown,
        *end,
    ]
    return "\n\n".join(block for block in blocks if block).rstrip() + "\n"


def _put(path: Path, content: bytes) -> Path:
    write_atomically(path, lambda file: file.write_bytes(content))
    return path


def _remove_stale(folder: Path, current: Collection[str]) -> None:
    """Tables and plots of an earlier report that this one has not: of a data set or a model set that is gone."""
    ours = [("table-", (".tex", ".csv")), ("cost-", (".tex", ".csv")), ("health-", (".csv",))]
    ours += [
        (file_stem(plot.__name__.replace("_", "-")) + "-", (".pdf", ".png")) for plot in plots()
    ]
    for path in folder.iterdir():
        known = any(path.name.startswith(a) and path.name.endswith(z) for a, z in ours)
        if known and path.name not in current and path.is_file() and not path.is_symlink():
            path.unlink()
