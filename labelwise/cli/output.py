"""What commands print: tables to stdout, one JSON document there if asked, the rest to stderr."""

from __future__ import annotations

import json
import sys
from typing import Any

from labelwise.plain import message_line


def say(message: object) -> None:
    """A message to the user, on stderr."""
    print(f"labelwise: {message_line(message)}", file=sys.stderr)


def shown_progress(quiet: bool) -> Any:
    """The display of progress, to be closed at the end."""
    from contextlib import closing

    from labelwise.progress import make_progress

    return closing(make_progress(quiet))


def console() -> Any:
    """Where tables are printed."""
    from rich.console import Console

    return Console(highlight=False)


def print_json(value: Any) -> None:
    """One JSON document."""
    print(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))
