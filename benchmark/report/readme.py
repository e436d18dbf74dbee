"""Puts the tables of a run into a Markdown file, between two marks: `python -m benchmark.report.readme FOLDER FILE`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from benchmark.errors import BenchError
from benchmark.report.formats.markdown import markdown
from benchmark.report.read import read
from benchmark.report.table import main_tables

_MARKED = re.compile(r"(<!-- table: [^\n]* -->\n).*?(<!-- end of table -->)", re.DOTALL)


def with_table(text: str, folder: Path) -> str:
    """The text with what stands between its marks replaced by the tables of a run."""
    if not _MARKED.search(text):
        raise BenchError("the file has no '<!-- table: ... -->' and '<!-- end of table -->' marks")
    tables = "\n".join(markdown(table) for table in main_tables(read(folder)))
    return _MARKED.sub(lambda marks: f"{marks[1]}\n{tables.strip()}\n\n{marks[2]}", text)


if __name__ == "__main__":
    page = Path(sys.argv[2])
    page.write_text(with_table(page.read_text(encoding="utf-8"), Path(sys.argv[1])), "utf-8")
