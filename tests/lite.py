"""EfficientNet-Lite written a second time, from the paper's table, to check the first against.

Names of the tensors are those of the published weight files; nothing is shared with timm.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

# expansion, kernel, stride, width, repeats (Tan and Le 2019, table 1; Lite fixes stem and head)
STAGES = [
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
]
DEPTH = {"efficientnet-lite0": 1.0, "efficientnet-lite1": 1.1, "efficientnet-lite2": 1.2}


def logits(state: dict[str, torch.Tensor], images: torch.Tensor, depth: float) -> torch.Tensor:
    """ImageNet logits of normalized images (N, 3, H, W); (N, 1000)."""

    def conv(x, name, stride=1, groups=1):
        weight = state[f"{name}.weight"]
        kernel = weight.shape[-1]
        pads = []
        for size in (x.shape[3], x.shape[2]):
            total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), weight, stride=stride, groups=groups)

    def norm(x, name):
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        scale = state[f"{name}.weight"] / torch.sqrt(var + 1e-3)
        shift = state[f"{name}.bias"] - mean * scale
        return x * scale[:, None, None] + shift[:, None, None]

    x = norm(conv(images, "_conv_stem", stride=2), "_bn0").clamp(0, 6)
    number = 0
    for stage, (expansion, _, stride, _, repeats) in enumerate(STAGES):
        # Lite leaves the first and the last stage as they are and repeats the others more.
        count = repeats if stage in (0, len(STAGES) - 1) else math.ceil(depth * repeats)
        for block in range(count):
            name, before = f"_blocks.{number}", x
            if expansion > 1:
                x = norm(conv(x, f"{name}._expand_conv"), f"{name}._bn0").clamp(0, 6)
            steps = stride if block == 0 else 1
            x = conv(x, f"{name}._depthwise_conv", steps, groups=x.shape[1])
            x = norm(x, f"{name}._bn1").clamp(0, 6)
            x = norm(conv(x, f"{name}._project_conv"), f"{name}._bn2")
            x = x + before if block > 0 else x
            number += 1
    x = norm(conv(x, "_conv_head"), "_bn1").clamp(0, 6).mean((2, 3))
    return F.linear(x, state["_fc.weight"], state["_fc.bias"])
