"""How often changed copies of learned images are noticed, and new images taken for copies.

    python benchmarks/copies.py cifar10

Recipes learn from some images of the training part; what each remembers is compared with other
images of it, and with copies of the remembered images that were compressed, scaled, brightened or
moved by a pixel. Prints the share that lies so close as only 1 % of other images should; a run
warns from 5 % on. The test part is not touched.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from labelwise.data.blocks import as_block
from labelwise.data.dataset import Dataset
from labelwise.data.load import load
from labelwise.data.memory import labeled_dataset
from labelwise.novelty import remembered, with_bank
from labelwise.overlap import copies
from labelwise.recipe.base import Context, Task
from labelwise.recipe.variants import parse_variants

RECIPES = "cnn(preset=fast, width=0.5, epochs=4), mlp(epochs=5), probe(image_size=64)"


def _jpeg(image: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer))


def _scaled(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    larger = Image.fromarray(image).resize((width * 5 // 4, height * 5 // 4))
    return np.asarray(larger.resize((width, height)))


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG, quality 60": _jpeg,
    "a quarter larger and back": _scaled,
    "15 % brighter": lambda image: np.clip(image * 1.15 + 5, 0, 255).astype(np.uint8),
    "a pixel to the side": lambda image: np.roll(image, 1, axis=1),
}


def labeled(pictures: list[np.ndarray]) -> Dataset:
    """Pictures as data whose labels mean nothing."""
    names = ("a", "b")
    labels = [names[place % 2] for place in range(len(pictures))]
    return labeled_dataset(as_block(np.stack(pictures), "pictures", []), labels, names)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--recipes", default=RECIPES)
    parser.add_argument("--images", type=int, default=4_000)
    options = parser.parse_args()
    data = load(options.data)
    train = data.labeled[(data.table["split"] != "test").to_numpy()[data.labeled]]
    drawn = np.random.default_rng(0).permutation(train)
    rows, others = np.sort(drawn[: options.images]), drawn[options.images :][:1_000]
    print("| recipe | new images | " + " | ".join(CHANGES) + " |")
    print("|---|---|" + "---|" * len(CHANGES))
    for variant in parse_variants(options.recipes):
        task = Task(data.images(rows), data.labels[rows], data.class_names)
        model = variant.recipe.fit(task, Context()).model
        kept = rows[remembered(model, data.labels[rows])]
        model = with_bank(model, model.embed(data.images(kept)))
        some = data.images(kept[:: max(1, len(kept) // 1_000)])
        pictures = [some.read(place) for place in range(len(some))]
        new = [data.images(others).read(place) for place in range(len(others))]
        shares = [copies(model, labeled(new))]
        for change in CHANGES.values():
            shares.append(copies(model, labeled([change(picture) for picture in pictures])))
        print(f"| `{variant.name}` | " + " | ".join(f"{s:.1%}" for s in shares) + " |", flush=True)


if __name__ == "__main__":
    main()
