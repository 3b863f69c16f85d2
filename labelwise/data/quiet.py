"""Silence Pillow's warnings while decoding: what they would say is on record in the decision."""

from __future__ import annotations

import threading
import warnings
from types import TracebackType
from typing import Any

_PILLOW = r"PIL\."


class Quiet:
    """A context in which warnings raised inside Pillow are ignored; safe in several threads.

    `warnings.catch_warnings` is not: two threads that leave it in the wrong order restore each
    other's filters for good. Here the first thread to enter adds one filter for Pillow's modules
    and the last one to leave takes that filter away; every other filter stays as it is.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filter: Any = None

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._filter is None or self._filter not in warnings.filters:
                warnings.filterwarnings("ignore", module=_PILLOW)
                self._filter = warnings.filters[0]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._inside -= 1
            filters: Any = warnings.filters
            if self._inside == 0 and self._filter in filters:
                filters.remove(self._filter)


quiet = Quiet()
