"""Sources: references.bib, and which of its entries a card's Paper line, a data set or a package means. No torch."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmark.errors import BenchError

FILE = Path(__file__).with_suffix(".bib")

_ENTRY = re.compile(r"^@(\w+)\{([\w-]+),\n((?:  \w+ = \{.*\},\n)+)\}$", re.MULTILINE)
_FIELD = re.compile(r"^  (\w+) = \{(.*)\},$", re.MULTILINE)
_QUOTED = re.compile(r'"([^"]+)"')


class SourceError(BenchError):
    """A paper without an entry, or with several that it could be."""


@dataclass(frozen=True)
class Reference:
    """One entry; `of` is what its keywords say that it is the source of: ("dataset", "mnist")."""

    kind: str
    key: str
    fields: tuple[tuple[str, str], ...]
    of: frozenset[tuple[str, str]]

    @property
    def title(self) -> str:
        """The title as text."""
        return plain(dict(self.fields)["title"])

    @property
    def surname(self) -> str:
        """Of the first author."""
        return plain(dict(self.fields)["author"].split(",")[0])

    @property
    def year(self) -> str:
        """The year of publication."""
        return dict(self.fields)["year"]

    def bibtex(self) -> str:
        """The entry for a .bib file."""
        lines = [f"  {name} = {{{value}}}," for name, value in self.fields]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}", ""])


@cache
def references() -> dict[str, Reference]:
    """Every entry by its key."""
    found = {}
    for kind, key, body in _ENTRY.findall(FILE.read_text(encoding="utf-8")):
        fields = dict(_FIELD.findall(body))
        told = fields.pop("keywords", "")
        pairs = (word.strip().partition(":") for word in told.split(","))
        of = frozenset((what, name) for what, _, name in pairs if name)
        found[key] = Reference(kind, key, tuple(fields.items()), of)
    return found


def sources(what: str, names: Iterable[str] = ()) -> list[Reference]:
    """The entries of named data sets, packages, ...; of all of a kind where no name is given."""
    wanted = {(what, name) for name in names}
    return [
        entry
        for entry in references().values()
        if (entry.of & wanted if wanted else any(kind == what for kind, _ in entry.of))
    ]


def cited(paper: str) -> list[Reference]:
    """The entries that a card's Paper line names, by title or by first author and year; SourceError if one has none."""
    return [_one(part) for part in citations(paper)]


def citations(paper: str) -> list[str]:
    """The citations of a Paper line: they are set apart by semicolons."""
    return [part.strip() for part in " ".join(paper.split()).split(";") if part.strip()]


def _one(part: str) -> Reference:
    found = list(_matching(part))
    if len(found) != 1:
        what = f"several: {', '.join(entry.key for entry in found)}" if found else "none"
        raise SourceError(
            f"{part!r}: which entry of {FILE.name} is it? {what}; a title in quotes or an alias tells"
        )
    return found[0]


def _matching(part: str) -> Iterator[Reference]:
    titles = [words(title) for title in _QUOTED.findall(part)]
    text = words(part)
    for entry in references().values():
        title = words(entry.title)
        if titles:
            # cards may leave out what follows the beginning of a title
            if any(title.startswith(own) for own in titles) and entry.year in part:
                yield entry
        elif any(what == "alias" and name in part for what, name in entry.of) or (
            words(entry.surname) in text and entry.year in part
        ):
            yield entry


def plain(tex: str) -> str:
    """BibTeX as text: without braces and with accented letters."""
    text = re.sub(r"\{?\\(['\"`^~=.uvHckr])\s*\{?(\w)\}?\}?", lambda m: m[2] + _ACCENTS[m[1]], tex)
    return unicodedata.normalize("NFC", text.replace("{", "").replace("}", "").replace("\\&", "&"))


def words(text: str) -> str:
    """Letters and digits alone, without accents: what two ways to write a title share."""
    bare = "".join(
        c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c)
    )
    return re.sub(r"[^a-z0-9]+", " ", bare).strip()


_ACCENTS = {"'": "\u0301", '"': "\u0308", "`": "\u0300", "^": "\u0302", "~": "\u0303", "=": "\u0304", ".": "\u0307",
            "u": "\u0306", "v": "\u030c", "H": "\u030b", "c": "\u0327", "k": "\u0328", "r": "\u030a"}  # fmt: skip
