"""The lines of a command: on the console unless it is to be quiet, and with their time in a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.text import Text

from benchmark.errors import BenchError
from benchmark.storage.manifest import now

LOG = "log.txt"


class Journal:
    """Lines for a person, on stderr and in `log.txt` of the folder that it was opened in."""

    def __init__(self, console: Console, quiet: bool = False) -> None:
        self.console, self.quiet = console, quiet
        self._file: Path | None = None

    def open(self, folder: Path, command: str) -> None:
        """Keep what is said from here on."""
        self._file = folder / LOG
        self._keep(command)

    def say(self, line: str) -> None:
        """Something worth knowing."""
        self._keep(line)
        if not self.quiet:
            self._show(Text(line))

    def warn(self, head: str, line: str, style: str = "red") -> None:
        """What is wrong: shown in any case."""
        self._keep(f"{head} {line}")
        self._show(Text.assemble((head, style), f" {line}"))

    @contextmanager
    def following(self) -> Iterator[None]:
        """Keep why the block ends, if it does so by an error that will be shown elsewhere."""
        try:
            yield
        except BenchError as error:
            self._keep(str(error))
            raise

    def close(self, line: str) -> None:
        """The last line: shown in any case."""
        self._keep(line)
        self._show(Text(line))

    def _show(self, text: Text) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)

    def _keep(self, line: str) -> None:
        if self._file:
            with suppress(OSError), self._file.open("a", encoding="utf-8") as file:
                file.write(f"{now()} {line}\n")
