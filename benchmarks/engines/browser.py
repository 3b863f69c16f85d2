"""Chromium without a window, told what to do through its debugging pipe; no package needed.

Protocol: https://chromedevtools.github.io/devtools-protocol/, JSON messages that end with NUL.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    "--headless=new", "--disable-gpu", "--no-sandbox", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--remote-debugging-pipe", "about:blank",
)  # fmt: skip


class Browser:
    """One page in a Chromium that draws in software."""

    def __init__(self, to: int, back: int, size: tuple[int, int]) -> None:
        self._to, self._back, self._rest, self._number = to, back, b"", 0
        self._session: str | None = None
        page = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        shape = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **shape)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            pass  # an event
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def evaluate(self, code: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.send("Runtime.evaluate", expression=code, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{code}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def open(self, page: Path) -> float:
        """Open a file and give the seconds until it says that it is ready."""
        began = time.perf_counter()
        self.send("Page.navigate", url=page.resolve().as_uri())
        while self.evaluate("document.documentElement?.dataset.ready") != "yes":
            time.sleep(0.05)
        return time.perf_counter() - began

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """A mouse event: mouseMoved, mousePressed, mouseReleased, mouseWheel."""
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            found = os.read(self._back, 2**16)
            if not found:
                raise RuntimeError("Chromium has ended.")
            self._rest += found
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)


@contextlib.contextmanager
def chromium(size: tuple[int, int]) -> Iterator[Browser]:
    """A running Chromium; ends with the block.

    Args:
        size: width and height of the window in pixels.
    """
    binary = next(filter(None, map(shutil.which, NAMES)), None)
    if binary is None:
        raise SystemExit(f"This needs Chromium; looked for {', '.join(NAMES)}.")
    theirs, to = os.pipe()
    back, ours = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # It reads from descriptor 3 and writes to 4, whatever numbers the pipes have here: above 9
        # bash knows them, but not every sh.
        shell = ["bash", "-c", f'exec "$@" 3<&{theirs} 4>&{ours}', "bash"]
        process = subprocess.Popen(
            [*shell, binary, f"--user-data-dir={profile}", *OPTIONS],
            pass_fds=(theirs, ours),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(ours)
        try:
            yield Browser(to, back, size)
        finally:
            process.terminate()
            process.wait()
            os.close(to)
            os.close(back)
