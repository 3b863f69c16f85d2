"""Recipes that learn from unlabeled images, small enough to learn the gratings in a second."""

from __future__ import annotations

CODE = 'layers="conv8 3x3 stride 2 same relu, dense 32 relu", epochs=4, least_steps=30, lr=3e-3'
WITH_DECODER = {
    "autoencoder": f"autoencoder({CODE})",
    "joint-autoencoder": f"joint-autoencoder({CODE}, weight=1)",
    "vae": f"vae({CODE})",
}
WITHOUT_LABELS = {
    "autoencoder": WITH_DECODER["autoencoder"],
    "vae": WITH_DECODER["vae"],
    "kmeans-features": "kmeans-features(centroids=30, patch=4)",
}
EVERY = {**WITH_DECODER, **WITHOUT_LABELS}
USES_UNLABELED = {
    **EVERY,
    "propagation": "propagation(base=probe(image_size=32))",
    "self-training": "self-training(base=mlp(epochs=12), rounds=2)",
    "fixmatch": "fixmatch(image_size=32, epochs=2, looks=1)",
}
