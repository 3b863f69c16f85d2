"""The process: messages instead of tracebacks, exit statuses, signals."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any, TextIO

from typer.exceptions import TyperException

from labelwise.cli.app import app
from labelwise.cli.output import say
from labelwise.errors import LabelwiseError, interruption
from labelwise.machine import keep_memory

TERMINATED = 128 + signal.SIGTERM
INTERRUPTED = 130  # what typer makes of Ctrl-C
ENDED: dict[Any, str] = {INTERRUPTED: "interrupted", TERMINATED: "terminated"}
KEPT = "what was finished is kept (a run goes on with --resume)"


def main() -> None:
    """Entry point: a message instead of a traceback, and the exit status (docs/protocol.md)."""
    _fix_output()
    _shorten_warnings()
    keep_memory()
    _end_orderly()
    try:
        sys.exit(app(standalone_mode=False))
    except LabelwiseError as error:
        say(error)
        sys.exit(error.exit_status)
    except TyperException as error:  # an unknown option, a missing argument
        command = getattr(getattr(error, "ctx", None), "command_path", "labelwise")
        say(f"{error.format_message().rstrip('.')}. See: {command} --help")
        sys.exit(error.exit_code)
    except SystemExit as stop:
        if stop.code in ENDED:
            say(f"{ENDED[stop.code]}; {KEPT}")
        raise
    except RuntimeError as error:
        ended = interruption(error)
        if ended is None:
            raise
        code = ended.code if isinstance(ended, SystemExit) else INTERRUPTED
        say(f"{ENDED.get(code, 'ended')}; {KEPT}")
        sys.exit(code)
    except BrokenPipeError:  # `labelwise ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        hint = "Finished trials are kept; go on with --resume when this is mended."
        runs = {"demo", "compare", "train", "tune"} & set(sys.argv[1:2])
        where = f": {error.filename}" if error.filename else ""
        say(f"{error.strerror or error}{where}. {hint if runs else ''}".rstrip())
        sys.exit(1)


def _shorten_warnings() -> None:
    """What labelwise itself warns of is one line for the user; where in the code is no help."""
    usual, own = warnings.showwarning, str(Path(__file__).parent.parent)

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if filename.startswith(own):
            say(f"note: {message}")
        else:
            usual(message, category, filename, lineno, file, line)

    warnings.showwarning = show


def _fix_output() -> None:
    """File names that are not valid Unicode are shown escaped instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _end_orderly() -> None:
    """Let SIGTERM end the program as Ctrl-C does: no temporary file left, locks released."""

    def terminate(*_: object) -> None:
        sys.exit(TERMINATED)

    signal.signal(signal.SIGTERM, terminate)
