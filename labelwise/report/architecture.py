"""The recommended model, layer by layer: output shapes and parameters, learned and frozen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelwise.errors import LabelwiseError
from labelwise.report import text

if TYPE_CHECKING:
    from torch import nn

    from labelwise.model import Model

MOST_PARTS = 60  # lines of the table


def model_summary(folder: Path) -> dict[str, Any] | None:
    """What is in RUN/model; None where it cannot be read (the report does not fail for it)."""
    from labelwise import bundle

    try:
        model = bundle.load(folder)
    except (LabelwiseError, OSError):
        return None
    frozen = model.architecture["kind"] == "timm"  # only the head was trained
    parts = _parts(model, frozen)
    counts = {
        "trained": sum(part["trained"] for part in parts),
        "frozen": sum(part["frozen"] for part in parts),
    }
    side = model.preprocessing
    return {
        "recipe": [
            text.field(name, value) for name, value in model.recipe.items() if name != "name"
        ],
        "recipe_name": model.recipe.get("name", ""),
        "parts": parts[:MOST_PARTS],
        "left_out": max(len(parts) - MOST_PARTS, 0),
        **counts,
        "total": counts["trained"] + counts["frozen"],
        "body": model.architecture.get("layers") or model.architecture.get("name"),
        "input": f"{side.width} × {side.height} pixels, {side.color}, {_resized(side.resize)}",
        "backbone": model.facts.get("backbone"),
        "bytes": text.size((folder / "weights.safetensors").stat().st_size),
    }


def _resized(how: str) -> str:
    return {
        "crop": "scaled and cut to the middle",
        "squash": "scaled without keeping the aspect ratio",
        "pad": "scaled and padded with black",
    }.get(how, how)


def _parts(model: Model, frozen: bool) -> list[dict[str, Any]]:
    """One line per layer of a small net, per stage of a large one, in the order of the forward."""
    import torch

    chosen = _chosen(model.network)
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
            network = model.network.eval()
            blank = torch.zeros((1, *model.preprocessing.shape), dtype=torch.uint8)
            network(blank.to(network.mean.device))
    finally:
        for handle in hooks:
            handle.remove()
    # What is never called as a module (a container, a part of another stage) has no shape.
    rest = [name for name in chosen if name not in shapes and _size(chosen[name])]
    return [_part(name, chosen[name], shapes.get(name, ()), frozen) for name in [*order, *rest]]


def _chosen(network: nn.Module) -> dict[str, nn.Module]:
    """The modules to list: every layer, or top-level blocks where there are too many layers."""
    leaves = {n: m for n, m in network.named_modules() if n and not next(m.children(), None)}
    if len(leaves) <= 40:
        return leaves
    found: dict[str, nn.Module] = {}
    for name, module in network.named_modules():
        depth = name.count(".")
        inside = any(name.startswith(f"{above}.") for above in found)
        large = len(list(module.children())) > 1 and depth < 3
        if not name or inside or (large and name.split(".")[0] == "body"):
            continue
        found[name] = module
    return found


def _part(name: str, module: nn.Module, shape: tuple[int, ...], frozen: bool) -> dict[str, Any]:
    parameters = _size(module)
    body = name.startswith("body")
    name = name.removeprefix("body.").removeprefix("net.")
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
    inside = sum(1 for part in module.modules() if not next(part.children(), None))
    if inside > 1:
        return f"{kind}, {text.counted(inside, 'layer')}"
    words = []
    if hasattr(module, "in_channels") and hasattr(module, "out_channels"):
        words.append(f"{module.in_channels} to {module.out_channels}")
    elif hasattr(module, "in_features") and hasattr(module, "out_features"):
        words.append(f"{module.in_features} to {module.out_features}")
    for attribute, before, usual in (("kernel_size", "", 0), ("stride", "stride ", 1)):
        found = getattr(module, attribute, usual)
        sizes = found if isinstance(found, tuple) else (found, found)
        if all(isinstance(size, int) for size in sizes) and set(sizes) != {usual}:
            words.append(before + "×".join(map(str, sizes)))
    return f"{kind} {', '.join(words)}".strip()
