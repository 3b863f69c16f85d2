"""Documents that cannot lie: their commands, options, links and lists exist."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
import typer.main

from labelwise import cli
from labelwise.backbones import PACKAGED
from labelwise.recipe import RECIPES, cnn, mlp
from labelwise.recipe.variants import parse_variants

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
COMMANDS = typer.main.get_command(cli.app).commands

each = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def blocks(document: Path, language: str) -> list[str]:
    """Code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.M | re.S)


@each
def test_every_command_in_a_document_exists_with_its_options(document):
    for block in blocks(document, "console"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if not words or words[0] != "labelwise":
                continue
            command = COMMANDS[words[1]]
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= known, line
            if "--recipes" in words:
                parse_variants(words[words.index("--recipes") + 1])


@each
def test_every_python_block_is_python_and_names_what_exists(document):
    import labelwise

    for block in blocks(document, "python"):
        for node in ast.walk(ast.parse(block)):
            is_ours = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            if is_ours and node.value.id == "lw":
                assert hasattr(labelwise, node.attr)


@each
def test_every_link_leads_to_a_file(document):
    for link in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        assert (document.parent / link).exists(), link


def test_the_recipe_page_lists_every_preset_and_backbone():
    text = (ROOT / "docs" / "recipes.md").read_text()
    for kind, presets in (("mlp", mlp.PRESETS), ("cnn", cnn.PRESETS)):
        for name in presets:
            assert name == "small" or f"{kind}(preset={name})" in text
    assert all(f"`{name}`" in text for name in PACKAGED)


def test_the_readme_lists_every_recipe():
    text = (ROOT / "README.md").read_text()
    assert all(f"| `{name}` |" in text for name in RECIPES)


def test_the_makefile_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make (\w[\w-]*)", (ROOT / "README.md").read_text()):
        if target in ("demo", "test", "test-all"):
            assert f"\n{target}:" in makefile
