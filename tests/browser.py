"""Opens a page as a reader would: in Chromium, and as tags, words and data."""

from __future__ import annotations

import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

HOOK = """<script>
const problems = [];
window.alert = (text) => problems.push("alert " + text);
window.addEventListener("error", (event) => problems.push("error " + event.message));
window.addEventListener("securitypolicyviolation", (event) => problems.push(event.blockedURI));
window.addEventListener("load", () => {
  ACTION;
  for (const entry of performance.getEntriesByType("resource"))
    if (!entry.name.startsWith("data:")) problems.push("load " + entry.name);
  if (document.documentElement.scrollWidth > innerWidth) problems.push("scrolls sideways");
  document.documentElement.dataset.problems = JSON.stringify(problems);
});
</script>"""


class Page(HTMLParser):
    """All tags with their attributes, the text outside of scripts, and the embedded data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.words.append(data)


def in_browser(
    page: Path, folder: Path, *, anchor: str = "", do: str = "", width: int = 1280
) -> Page:
    """The page after its scripts, and the action `do`, ran in Chromium; fails on any problem."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    binary = next(filter(None, map(shutil.which, names)), None)
    if binary is None:
        pytest.skip(f"no Chromium is installed (looked for {', '.join(names)})")
    hooked = folder / "hooked.html"
    hook = HOOK.replace("ACTION", do)
    hooked.write_text(page.read_text("utf-8").replace("<title>", hook + "<title>", 1), "utf-8")
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=3000", "--dump-dom",
    ]  # fmt: skip
    url = hooked.as_uri() + anchor
    done = subprocess.run([binary, *options, url], capture_output=True, timeout=120, check=True)
    dom = Page(done.stdout.decode())
    root = dom.tags[0][1]
    assert root.get("data-ready") == "yes"
    assert root.get("data-problems") == "[]"
    return dom
