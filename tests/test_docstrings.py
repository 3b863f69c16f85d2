"""What is public says what it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import labelwise

ROOT = Path(labelwise.__file__).parent


def public(tree: ast.Module) -> Iterator[tuple[str, ast.AST, bool]]:
    """Name, node and whether it is a method, of what has no underscore in front."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node, False
            for inner in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                    yield inner.name, inner, True


def test_every_public_name_has_a_docstring_of_its_own_or_of_what_it_implements():
    trees = {path: ast.parse(path.read_text()) for path in ROOT.rglob("*.py")}
    found = [(path, *entry) for path, tree in trees.items() for entry in public(tree)]
    # A method that implements another one is documented there; torch documents `forward`.
    told = {name for _, name, node, method in found if method and ast.get_docstring(node)}
    missing = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, name, node, method in found
        if not ast.get_docstring(node)
        and not (method and name in told | {"forward"})
        and name != "labelwise"  # the program, whose help is given to typer
    ]
    missing += [
        str(path.relative_to(ROOT)) for path, t in trees.items() if not ast.get_docstring(t)
    ]
    assert not missing
