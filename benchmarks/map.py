"""How fluid a map is in a browser that draws in software: frames a second while it is panned.

    python benchmarks/map.py                      70,000 random points in ten clouds
    python benchmarks/map.py --page map.html      a page that `labelwise map` has written
    python benchmarks/map.py --points 200000 --seconds 10

Needs Chromium, nothing else. The page runs in headless Chromium without a graphics card, in a
window of 1400 x 900 pixels; the mouse drags the map in circles, and every frame that the browser
draws meanwhile is counted. 60 frames a second is the most it draws. Printed for every layout, and
for the last one zoomed in: the median over frames, the slowest hundredth, and the slowest frame.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path

import numpy as np
from engines.browser import Browser, chromium

from labelwise.atlas.facets import Facet
from labelwise.atlas.page import Content, render
from labelwise.atlas.sprites import Sprites

WINDOW = (1400, 900)
MIDDLE = (530, 470)  # of the map in it
COUNT_FRAMES = """(() => {
  window.frames_ = [];
  const tick = (now) => { window.frames_.push(now); requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
})()"""
BUTTONS = "[...document.querySelectorAll('#layouts button')]"


def main() -> None:
    """Measure and print a line per layout."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--page", type=Path)
    parser.add_argument("--points", type=int, default=70_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, chromium(WINDOW) as browser:
        page = args.page or made(args.points, Path(folder) / "map.html")
        opened = browser.open(page)
        print(f"{page.stat().st_size / 1e6:.1f} MB, ready after {opened:.1f} s")
        browser.evaluate(COUNT_FRAMES)
        for name in browser.evaluate(f"{BUTTONS}.map((b) => b.textContent)"):
            browser.evaluate(f"{BUTTONS}.find((b) => b.textContent === '{name}').click()")
            time.sleep(1.5)  # the points travel
            report(name, panned(browser, args.seconds))
        for _ in range(8):
            browser.mouse("mouseWheel", *MIDDLE, deltaX=0, deltaY=-120)
        report(f"{name}, zoomed in", panned(browser, args.seconds))


def panned(browser: Browser, seconds: float) -> list[float]:
    """Frames a second of every frame while the mouse drags the map, ascending."""
    button = {"button": "left", "buttons": 1}
    browser.mouse("mouseMoved", *MIDDLE)
    browser.mouse("mousePressed", *MIDDLE, clickCount=1, **button)
    browser.evaluate("void (window.frames_.length = 0)")
    began = time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        x, y = 200 * math.cos(2 * passed) - 200, 150 * math.sin(2 * passed)
        browser.mouse("mouseMoved", MIDDLE[0] + x, MIDDLE[1] + y, **button)
    frames = browser.evaluate("window.frames_.slice()")
    browser.mouse("mouseReleased", *MIDDLE, button="left", clickCount=1)
    return sorted(1000 / np.diff(frames))


def report(name: str, rates: list[float]) -> None:
    """Print a line."""
    slow = rates[len(rates) // 100]
    print(
        f"{name:20} {len(rates)} frames; a second: median {np.median(rates):.0f}, "
        f"slowest hundredth {slow:.0f}, slowest {rates[0]:.0f}",
        flush=True,
    )


def made(points: int, page: Path) -> Path:
    """A page with random points in ten clouds, without images."""
    rng = np.random.default_rng(0)
    cloud = rng.integers(0, 10, points)
    centers = rng.normal(0, 6, (10, 2))
    layouts = {
        name: (centers[cloud] * scale + rng.normal(size=(points, 2))).astype(np.float32)
        for name, scale in (("pca", 0.3), ("tsne", 1.0), ("umap", 2.0))
    }
    names = tuple(map(str, range(10)))
    content = Content(
        title="random points",
        ids=np.arange(points),
        paths=[f"{number}.png" for number in range(points)],
        layouts=layouts,
        facets=[Facet("label", "Label", (*names, "no label"), cloud, "classes", 10)],
        confidence=None,
        neighbors=(np.arange(points)[:, None] + np.arange(1, 9)) % points,
        notes=[],
    )
    none = Sprites(1, 1, (), np.full(points, -1), np.zeros((points, 2), np.int64))
    page.write_text(render(content, lambda limit: none), "utf-8")
    return page


if __name__ == "__main__":
    main()
