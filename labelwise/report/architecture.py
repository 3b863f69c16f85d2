"""The recommended model, layer by layer: output shapes and parameters, learned and frozen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelwise.errors import LabelwiseError
from labelwise.report import text

if TYPE_CHECKING:
    from torch import nn

    from labelwise.nn.network import Network

MOST_LAYERS = 40  # listed one by one; above that the network's blocks are
MOST_PARTS = 60  # lines of the table


def model_summary(folder: Path) -> dict[str, Any] | None:
    """What is in RUN/model; None where it cannot be read (the report does not fail for it)."""
    from labelwise import bundle

    try:
        model = bundle.load(folder)
    except (LabelwiseError, OSError):
        return None
    origin = model.facts.get("backbone")
    frozen = origin is not None and origin.get("frozen", True)  # only the head was trained
    remembered = model.architecture.get("bank", 0)
    model.network.bank = None  # neither a layer nor trained
    parts = parts_of(model.network, model.preprocessing.shape, frozen=frozen)
    # Counted from the network, not from the table: a shared or a bare parameter counts once.
    kept = _size(getattr(model.network.body, "base", model.network.body)) if frozen else 0
    counts = {"trained": _size(model.network) - kept, "frozen": kept}
    side = model.preprocessing
    return {
        "recipe": [
            text.field(name, value) for name, value in model.recipe.items() if name != "name"
        ],
        "recipe_name": model.recipe.get("name", ""),
        "parts": parts[:MOST_PARTS],
        "left_out": max(len(parts) - MOST_PARTS, 0),
        **counts,
        "input": f"{side.width} × {side.height} pixels, {side.color}, {_resized(side.resize)}",
        "backbone": [text.field(name, value) for name, value in (origin or {}).items()],
        "remembered": remembered,
        "bytes": text.size((folder / "weights.safetensors").stat().st_size),
    }


def _resized(how: str) -> str:
    return {
        "crop": "scaled and cut to the middle",
        "squash": "scaled without keeping the aspect ratio",
        "pad": "scaled and padded with black",
    }.get(how, how)


def parts_of(
    network: Network, shape: tuple[int, int, int], *, frozen: bool
) -> list[dict[str, Any]]:
    """One line per layer of a small net, per stage of a large one, in the order of the forward."""
    import torch

    chosen = _chosen(network)
    shapes: dict[str, tuple[int, ...]] = {}
    order: list[str] = []

    def hook(name: str) -> Any:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            found = output[0] if isinstance(output, tuple | list) and output else output
            if name not in shapes:
                order.append(name)
            shapes[name] = tuple(found.shape[1:]) if isinstance(found, torch.Tensor) else ()

        return note

    hooks = [module.register_forward_hook(hook(name)) for name, module in chosen.items()]
    try:
        with torch.inference_mode():
            blank = torch.zeros((1, *shape), dtype=torch.uint8)
            network.eval()(blank.to(network.mean.device))
    finally:
        for handle in hooks:
            handle.remove()
    # What is never called as a module (a container, a part of another stage) has no shape.
    rest = [name for name in chosen if name not in shapes and _size(chosen[name])]
    return [_part(name, chosen[name], shapes.get(name, ()), frozen) for name in [*order, *rest]]


def _chosen(network: nn.Module) -> dict[str, nn.Module]:
    """The modules to list: every layer, or top-level blocks where there are too many layers."""
    from torch import nn

    # An empty container is falsy, so the test for children has to be `is None`.
    leaves = {n: m for n, m in network.named_modules() if n and next(m.children(), None) is None}
    if len(leaves) <= MOST_LAYERS:
        return {n: m for n, m in leaves.items() if not isinstance(m, nn.Sequential)}
    found: dict[str, nn.Module] = {}
    body = network.get_submodule("body")
    while len(children := list(body.named_children())) == 1:  # a wrapper around the real network
        body = children[0][1]
    whole = _size(body)
    for name, module in body.named_children():
        inside = list(module.named_children())
        # Most of the network in one container: its blocks are the stages.
        if len(inside) > 1 and _size(module) > whole / 2:
            found |= {f"body.{name}.{part}": block for part, block in inside}
        else:
            found[f"body.{name}"] = module
    return found | {name: module for name, module in network.named_children() if name == "head"}


def _part(name: str, module: nn.Module, shape: tuple[int, ...], frozen: bool) -> dict[str, Any]:
    parameters = _size(module)
    body = name.startswith("body") and name != "body.projection"
    name = name.removeprefix("body.")
    return {
        "name": name,
        "what": _described(module),
        "shape": " × ".join(map(str, shape)) or text.MISSING,
        "trained": 0 if frozen and body else parameters,
        "frozen": parameters if frozen and body else 0,
    }


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _described(module: nn.Module) -> str:
    """A layer in a few words: Conv2d 1 to 16, 3×3, stride 2."""
    kind = type(module).__name__.lstrip("_")
    children = len(list(module.children()))
    if kind in ("Sequential", "ModuleList") and children:
        return text.counted(children, "block")
    weights = sum(parameter.ndim > 1 for parameter in module.parameters())
    if children and weights:
        return f"{kind}, {text.counted(weights, 'weight layer')}"
    words = []
    if hasattr(module, "in_channels") and hasattr(module, "out_channels"):
        words.append(f"{module.in_channels} to {module.out_channels}")
    elif hasattr(module, "in_features") and hasattr(module, "out_features"):
        words.append(f"{module.in_features} to {module.out_features}")
    if kernel := _sizes(module, "kernel_size"):
        words.append("×".join(map(str, kernel)))
    if set(stride := _sizes(module, "stride")) - {1}:
        words.append("stride " + "×".join(map(str, dict.fromkeys(stride))))
    return f"{kind} {', '.join(words)}".strip()


def _sizes(module: nn.Module, name: str) -> tuple[int, ...]:
    """A window's size or stride in both directions; empty for layers without."""
    found = getattr(module, name, ())
    sizes = found if isinstance(found, tuple) else (found, found)
    return tuple(size for size in sizes if isinstance(size, int))
