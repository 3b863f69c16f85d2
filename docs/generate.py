"""Hook of mkdocs: the pages of the site that are made of the program and of files beside docs/.

- reference/commands.md from the command line, reference/recipes.md from the dataclasses;
- contributing.md and changelog.md, whose originals stand where readers of a repository look;
- code/ with a page for every file of Python that a page links to, and for every script of a story.

They are made while the site is built and stored nowhere, so they cannot be out of date.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
MOVED = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#\s]+)")


def generated() -> dict[str, str]:
    """Every generated page as Markdown, by its place below docs/."""
    pages = {"reference/commands.md": commands_page(), "reference/recipes.md": recipes_page()}
    for original, page in MOVED.items():
        if page != "index.md":
            pages[page] = relinked((ROOT / original).read_text(), ROOT / original, page)
    for file in files_of_python():
        title = file.relative_to(ROOT).as_posix()
        pages[code_page(title)] = f"# {title}\n\n```python\n{file.read_text()}```\n"
    return pages


# -- the command line


def commands_page() -> str:
    """Every command with its help, usage, examples, arguments and options."""
    import typer.main

    from labelwise import cli

    commands = typer.main.get_command(cli.app).commands
    parts = [
        "# Commands",
        "Made of the program's own help: `labelwise COMMAND --help` says the same.",
        *(_command(name, command) for name, command in commands.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _command(name: str, command: Any) -> str:
    text, examples = _help(command.help)
    arguments = [p for p in command.params if not p.opts[0].startswith("-")]
    options = [p for p in command.params if p not in arguments]
    usage = [p.metavar for p in arguments] + [
        f"{p.opts[0]} {p.metavar}" for p in options if p.required
    ]
    parts = [
        f"## labelwise {name}",
        text,
        _block(" ".join(["labelwise", name, *usage, "[OPTIONS]" if options else ""]).rstrip()),
        "Examples:" if len(examples) > 1 else "Example:",
        _block("\n".join(examples)),
        _table(("argument", "meaning"), [(f"`{p.metavar}`", p.help) for p in arguments]),
        _table(("option", "meaning"), [(_option(p), _meaning(p)) for p in options]),
    ]
    return "\n\n".join(filter(None, parts))


def _help(text: str) -> tuple[str, list[str]]:
    """A command's help without its examples, and these."""
    lines = inspect.cleandoc(text).replace("\b", "").splitlines()
    examples = [line.removeprefix("Example: ") for line in lines]
    examples = [line for line in examples if line.startswith("labelwise ")]
    told = [line for line in lines if not line.startswith(("labelwise ", "Example"))]
    return "\n".join(told).strip(), examples


def _option(parameter: Any) -> str:
    value = "" if parameter.is_flag else f" {parameter.metavar or 'TEXT'}"
    return f"`{', '.join(parameter.opts)}{value}`"


def _meaning(parameter: Any) -> str:
    if parameter.is_flag or parameter.default is None:
        return ("Required. " if parameter.required else "") + parameter.help
    return f"{parameter.help} Default `{parameter.default}`."


# -- the recipes


def recipes_page() -> str:
    """Every recipe with its fields, defaults, meaning, ranges for tune, and presets."""
    from labelwise.recipe.describe import recipes

    found = [recipes(brief["name"])[0] for brief in recipes()]
    overview = [
        (f"[`{r['name']}`](#{r['name']})", r["regime"], "yes" if r["uses_unlabeled"] else "no")
        for r in found
    ]
    parts = [
        "# Recipes, field by field",
        "Read off the dataclasses: `labelwise recipes NAME` says the same. How the recipes work "
        "stands in [recipes and networks](../recipes.md).",
        _table(("recipe", "what it is", "learns from unlabeled images"), overview),
        *map(_recipe, found),
    ]
    return "\n\n".join(parts) + "\n"


def _recipe(recipe: Mapping[str, Any]) -> str:
    from labelwise.recipe.variants import value_text

    rows = [
        (f"`{f['name']}`", _default(f), f["meaning"], _ranges(f["search"]))
        for f in recipe["fields"]
    ]
    presets = [
        (
            f"`{name}`",
            ", ".join(f"`{field}={value_text(value)}`" for field, value in values.items()),
        )
        for name, values in recipe.get("presets", {}).items()
    ]
    parts = [
        f"## {recipe['name']}",
        _plain(recipe["description"]),
        _table(("field", "default", "meaning", "tune looks in"), rows),
        _table(("preset", "fields that it sets"), presets),
    ]
    return "\n\n".join(filter(None, parts))


def _default(field: Mapping[str, Any]) -> str:
    if field["default"] in (None, ""):
        return "open" if field["default"] is None else "none"
    return f"`{field['text']}`"


def _ranges(search: Mapping[str, str]) -> str:
    if len(search) == 1:
        return f"`{next(iter(search.values()))}`"
    return ", ".join(f"{part}: `{found}`" for part, found in search.items())


# -- Markdown


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table; nothing without rows."""
    if not rows:
        return ""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    """One line; a bar outside of code ends no cell."""
    line = re.sub(r"\s+", " ", text)
    return re.sub(r"(`[^`]*`)|\|", lambda found: found[1] or r"\|", line)


def _plain(text: str) -> str:
    """Text in which a star or an underscore outside of code is just that."""
    return re.sub(r"(`[^`]*`)|([*_<])", lambda found: found[1] or f"\\{found[2]}", text)


def _block(text: str) -> str:
    return f"```console\n{text}\n```"


# -- links


def relinked(text: str, file: Path, page: str) -> str:
    """The Markdown of a file whose page on the site is `page`: links lead to pages of the site."""

    def target(found: re.Match[str]) -> str:
        path = (file.parent / found[1]).resolve()
        place = place_of(path)
        return os.path.relpath(place, Path(page).parent) if place else found[1]

    return LINK.sub(target, text)


def place_of(path: Path) -> str | None:
    """Where on the site a file of the repository is; None if it is not."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    inside = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
    return code_page(inside) if path.suffix == ".py" else MOVED.get(inside)


def code_page(script: str) -> str:
    return f"code/{script.removesuffix('.py')}.md"


def files_of_python() -> list[Path]:
    """Those outside of docs/ that pages link to, and the scripts of the stories."""
    linked = {
        (page.parent / link).resolve()
        for page in [*DOCS.rglob("*.md"), *map(ROOT.joinpath, MOVED)]
        for link in LINK.findall(page.read_text())
        if link.endswith(".py")
    }
    inside = {file for file in linked if file.is_relative_to(ROOT) and file.is_file()}
    return sorted(inside | set((ROOT / "examples").glob("*.py")))


def scripts_of(text: str, page: str) -> str:
    """A line that leads to the scripts that a page tells to run; nothing where there is none."""
    named = sorted(set(re.findall(r"\bexamples/\w+\.py\b", text)))
    places = {name: os.path.relpath(code_page(name), Path(page).parent) for name in named}
    links = [f"[`{name}`]({place})" for name, place in places.items() if (ROOT / name).is_file()]
    return f"\n\nThe whole script: {', '.join(links)}.\n" if links else ""


# -- what mkdocs calls


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    for place, text in generated().items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    place = page.file.src_uri
    if page.file.generated_by:
        return markdown
    text = relinked(markdown, DOCS / place, place) + scripts_of(markdown, place)
    # In a table GitHub wants a bar escaped also in code, where Python-Markdown shows the backslash.
    return re.sub(r"`[^`\n]*`", lambda code: code[0].replace(r"\|", "|"), text)
