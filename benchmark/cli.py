"""`bench`: the commands under one name, and what becomes of their errors. No torch before it is needed.

Exit status: 0 all done; 1 some cells failed; 2 usage or suite error; 3 a FAIL of preflight or masking under --strict;
4 interrupted, continue with the same command; 5 a stored file is damaged. Of `verify`: 1 something differs; of
`compare`: 1 a gate does not hold.
"""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

import typer
from rich.markup import escape

from benchmark.commands import (
    compare,
    doctor,
    export,
    list_,
    plan,
    report,
    run,
    show,
    status,
    train,
    verify,
)
from benchmark.commands._shared import err
from benchmark.errors import BenchError

app = typer.Typer(
    name="bench",
    help="Robustness and interpretability of image classifiers, measured on the same checkpoints in one run.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Start with: bench run --suite smoke",
)
# in the order of --help
app.command("list")(list_.list_)
_IN_ORDER = (
    show.show,
    plan.plan,
    run.run,
    train.train,
    report.report,
    compare.compare,
    export.export,
    status.status,
    verify.verify,
    doctor.doctor,
)
for command in _IN_ORDER:
    app.command()(command)


def main() -> None:
    """Entry point of the `bench` command."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except BenchError as error:
        _leave(str(error), error.status)
    except OSError as error:
        _leave(f"{error.strerror or error}: {error.filename or 'no file named'}", 1)


def _leave(message: str, status: int) -> NoReturn:
    err.print(f"[bold red]bench:[/] {escape(message)}", highlight=False, soft_wrap=True)
    sys.exit(status)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
