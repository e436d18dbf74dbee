"""Puts tables of runs into Markdown files: `python -m benchmark.report.embed FILE ...`, from the repository's root.

A file says which by two marks: `<!-- table: FOLDER [NAME] -->` and `<!-- end of table -->`. NAME is a table of
`bench report --table`; the short table without one. Instead,
`<!-- order: FOLDER MEASURE ...: MODEL < MODEL < MODEL; MODEL < MODEL -->` stands for
`bench compare FOLDER --measure MEASURE ... --order "MODEL < MODEL < MODEL" --order "MODEL < MODEL"`.
Titles become bold: the page has its own headings.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from benchmark.compare import compare
from benchmark.errors import BenchError
from benchmark.report.asked import text as shown
from benchmark.report.compared import text as compared
from benchmark.report.read import read
from benchmark.sides import chain

_MARKED = re.compile(r"(<!-- (table|order): ([^\n]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def with_tables(text: str, root: Path) -> str:
    """The text with what stands between its marks replaced by the tables; folders are under `root`.

    BenchError for a text without marks, a folder that holds no run, a name that is no table.
    """
    if not _MARKED.search(text):
        raise BenchError("no '<!-- table: FOLDER [NAME] -->' with an '<!-- end of table -->'")
    return _MARKED.sub(lambda m: f"{m[1]}\n{_content(root, m[2], m[3])}\n\n{m[4]}", text)


def _content(root: Path, kind: str, asked: str) -> str:
    found = _CONTENTS[kind](root, asked).strip()
    return re.sub(r"^#+ (.+)$", r"**\1**", found, flags=re.MULTILINE)


def _order(root: Path, asked: str) -> str:
    """FOLDER MEASURE ...: MODEL < MODEL ...; ..."""
    where, _, orders = asked.partition(": ")
    folder, *words = shlex.split(where)
    chains = list(map(chain, orders.split(";")))
    return compared(compare(root / folder, words=words, orders=chains), ".md")


def _table(root: Path, asked: str) -> str:
    """FOLDER [NAME]"""
    folder, _, name = asked.partition(" ")
    return shown(read(root / folder), name or "main", "markdown")


_CONTENTS = {"table": _table, "order": _order}


if __name__ == "__main__":
    for page in map(Path, sys.argv[1:]):
        page.write_text(with_tables(page.read_text(encoding="utf-8"), Path()), "utf-8")
