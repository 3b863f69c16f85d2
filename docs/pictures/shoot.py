"""Pictures of reports for the documents: python docs/pictures/shoot.py runs/picture runs/curve

The first run gives report.png, its top; the second, of several numbers of labels, labels.png. Needs
Chromium. How the runs are made stands beside the pictures: index.md, how-to/read-the-report.md.
"""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path

from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from benchmarks.engines.browser import Browser, chromium  # noqa: E402

RECTANGLE = (
    "(({{top, bottom}}) => [top, bottom])(document.querySelector('{}').getBoundingClientRect())"
)


def shoot(browser: Browser, run: str, part: str, *, from_top: bool, width: int, out: Path) -> None:
    """A part of a run's report, or all down to its end, in 256 colors."""
    browser.send("Page.enable")
    browser.send("Page.navigate", url=(Path(run) / "report.html").resolve().as_uri())
    while browser.evaluate("document.readyState") != "complete":
        pass
    top, bottom = browser.evaluate(RECTANGLE.format(part))
    start = 0 if from_top else top
    clip = {"x": 0, "y": start, "width": width, "height": bottom - start + 12, "scale": 1}
    shot = browser.send(
        "Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True
    )
    image = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
    image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        out, optimize=True
    )
    print(out, image.size, out.stat().st_size)


def main(first: str, second: str) -> None:
    with chromium((1100, 1300)) as browser:
        report = HERE / "report.png"
        shoot(browser, first, "#leaderboard table", from_top=True, width=1100, out=report)
    with chromium((860, 1000)) as browser:
        shoot(browser, second, "#labels", from_top=False, width=860, out=HERE / "labels.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
