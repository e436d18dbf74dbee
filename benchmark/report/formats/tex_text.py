"""Plain text as LaTeX that shows the same characters, whatever they are and whichever engine compiles it."""

from __future__ import annotations

import re
import unicodedata

from benchmark.report.names import norm_sign

FALLBACK = r"\providecommand{\benchglyph}[2]{\ifdefined\Umathchar#1\else[#2]\fi}"
"""Characters without a command: as they are under LuaTeX and XeTeX, by code point under pdfTeX, which would stop."""


def tex(text: str) -> str:
    """One line of text, escaped; norms become signs."""
    line = norm_sign(unicodedata.normalize("NFC", " ".join(text.split())))
    text = re.sub(r"ℓ[∞₀₁₂]|.", lambda match: _character(match[0]), line)
    # at a line's start they would be taken for the settings of the \\ or \midrule before
    return re.sub(r"^[\[*]", r"{\g<0>}", text)


def _character(c: str) -> str:
    if c in _COMMANDS:
        return _COMMANDS[c]
    if c.isascii():
        return c if c.isprintable() else ""
    parts = unicodedata.normalize("NFD", c)
    if len(parts) == 2 and parts[0].isascii() and parts[1] in _ACCENTS:
        return rf"\{_ACCENTS[parts[1]]}{{{parts[0]}}}"
    if unicodedata.category(c)[0] in "CZ":
        return ""
    return rf"\benchglyph{{{c}}}{{U+{ord(c):04X}}}"


def _greek() -> dict[str, str]:
    """Greek letters with a command; what looks like a Latin letter has none and takes the fallback."""
    letters = [c for c in map(chr, range(0x3B1, 0x3CA)) if c not in "ος"] + list("ΓΔΘΛΞΠΣΥΦΨΩ")
    names = [unicodedata.name(c).split()[-1].lower().replace("lamda", "lambda") for c in letters]
    return {
        c: rf"\ensuremath{{\{name if c.islower() else name.capitalize()}}}"
        for c, name in zip(letters, names, strict=True)
    }


_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0308": '"',
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
    "\u0323": "d",
    "\u0331": "b",
}
_COMMANDS = {
    **{c: "\\" + c for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\ensuremath{<}",
    ">": r"\ensuremath{>}",
    "|": r"\ensuremath{|}",
    '"': "''",
    "↑": r"\ensuremath{\uparrow}",
    "↓": r"\ensuremath{\downarrow}",
    "±": r"\ensuremath{\pm}",
    "†": r"\textsuperscript{\ensuremath{\dagger}}",
    "‡": r"\textsuperscript{\ensuremath{\ddagger}}",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "×": r"\ensuremath{\times}",
    "·": r"\ensuremath{\cdot}",
    "−": r"\ensuremath{-}",
    "∞": r"\ensuremath{\infty}",
    "ℓ": r"\ensuremath{\ell}",
    "∂": r"\ensuremath{\partial}",
    "≤": r"\ensuremath{\leq}",
    "≥": r"\ensuremath{\geq}",
    "→": r"\ensuremath{\to}",
    "ℓ∞": r"$\ell_\infty$",
    "ℓ₀": r"$\ell_0$",
    "ℓ₁": r"$\ell_1$",
    "ℓ₂": r"$\ell_2$",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "`": r"\`{}",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "œ": r"\oe{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "Æ": r"\AE{}",
    "Œ": r"\OE{}",
    "²": r"\ensuremath{^2}",
    "³": r"\ensuremath{^3}",
    "ı": r"\i{}",
    **_greek(),
}
