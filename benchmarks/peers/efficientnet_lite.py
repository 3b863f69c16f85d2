"""EfficientNet-Lite0 for Keras, with the weights that the others have.

    python efficientnet_lite.py WEIGHTS.npz OUT.keras

Keras has no EfficientNet-Lite. WEIGHTS.npz holds timm's tensors by their names in timm, and besides
`pixels` (N, 224, 224, 3), in -1..1, and `maps`, what timm's network makes of them before pooling.
Prints the largest difference of the pooled maps from timm's, relative to the largest value; more
than 1e-3 is an error.
"""

import sys

import keras
import numpy as np
from keras import layers

# Kernel, stride, expansion, width and number of the blocks of every stage (Tan and Le 2019).
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


def main() -> None:
    """Build, load, check, save."""
    weights = np.load(sys.argv[1])
    network = build()
    for layer in network.layers:
        if layer.weights:
            layer.set_weights(tensors(weights, layer))
    found = network.predict(weights["pixels"], verbose=0).mean(axis=(1, 2))
    wanted = weights["maps"].mean(axis=(2, 3))
    difference = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    print(f"{difference:.2e}")
    if difference > 1e-3:
        raise SystemExit("The network in Keras is not that of timm.")
    network.save(sys.argv[2])


def build() -> keras.Model:
    """The network up to its last maps; layers are named as in timm, with - for a dot."""
    inputs = keras.Input((224, 224, 3))
    x = layers.Conv2D(32, 3, 2, padding="same", use_bias=False, name="conv_stem")(inputs)
    x = norm(x, "bn1")
    before = 32
    for stage, (kernel, stride, expansion, width, count) in enumerate(STAGES):
        for block in range(count):
            name, step = f"blocks-{stage}-{block}", stride if block == 0 else 1
            y = x
            if expansion > 1:
                y = layers.Conv2D(before * expansion, 1, use_bias=False, name=f"{name}-conv_pw")(y)
                y = norm(y, f"{name}-bn1")
            y = layers.DepthwiseConv2D(
                kernel, step, padding="same", use_bias=False, name=f"{name}-conv_dw"
            )(y)
            y = norm(y, f"{name}-bn{2 if expansion > 1 else 1}")
            last, number = ("conv_pwl", 3) if expansion > 1 else ("conv_pw", 2)
            y = layers.Conv2D(width, 1, use_bias=False, name=f"{name}-{last}")(y)
            y = norm(y, f"{name}-bn{number}", active=False)
            x = layers.Add()([x, y]) if step == 1 and before == width else y
            before = width
    x = layers.Conv2D(1280, 1, use_bias=False, name="conv_head")(x)
    return keras.Model(inputs, norm(x, "bn2"), name="efficientnet-lite0")


def norm(x, name: str, active: bool = True):
    """Batch norm, and the activation behind it."""
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=name)(x)
    return layers.ReLU(6)(x) if active else x


def tensors(weights, layer) -> list[np.ndarray]:
    """A layer's weights in Keras' layout."""
    name = layer.name.replace("-", ".")
    if isinstance(layer, layers.BatchNormalization):
        parts = ("weight", "bias", "running_mean", "running_var")
        return [weights[f"{name}.{part}"] for part in parts]
    kernel = weights[f"{name}.weight"]  # (out, in, height, width), depthwise (channels, 1, ...)
    if isinstance(layer, layers.DepthwiseConv2D):
        return [kernel.transpose(2, 3, 0, 1)]
    return [kernel.transpose(2, 3, 1, 0)]


if __name__ == "__main__":
    main()
