"""Documents that cannot lie: their commands, options, links, pictures and lists exist."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import types
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import typer.main

import labelwise
from benchmarks.engines.browser import NAMES, chromium
from docs import generate
from labelwise import cli
from labelwise.backbones import PACKAGED
from labelwise.recipe import RECIPES, cnn, mlp
from labelwise.recipe.describe import recipes
from labelwise.recipe.variants import parse_variants
from tests.browser import Page

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
COMMANDS = typer.main.get_command(cli.app).commands
PICTURES = (".png", ".jpg", ".webp", ".svg", ".gif")
RUN = "<!-- run -->\n"  # above a block of Python: the tests run it


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


each = pytest.mark.parametrize("document", DOCUMENTS, ids=name)


def blocks(document: Path, language: str, before: str = "") -> list[str]:
    """Code blocks of a language."""
    return re.findall(rf"^{before}```{language}\n(.*?)^```", document.read_text(), re.M | re.S)


def prose(document: Path) -> str:
    """The text without its code."""
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", document.read_text(), flags=re.M | re.S)


def anchors(document: Path) -> set[str]:
    """What GitHub makes of the headings."""
    without_code = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", without_code, re.M)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).strip().lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


@each
def test_every_command_in_a_document_exists_with_its_options(document):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`make ([\w-]+)`", document.read_text())) <= targets
    for block in [*blocks(document, "console"), *blocks(document, "sh")]:
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["make"]:
                assert words[1] in targets, line
            scripts = [word for word in words[:2] if word.endswith(".py")]
            assert all((ROOT / script).is_file() for script in scripts), line
            if words[:1] != ["labelwise"]:
                continue
            command = COMMANDS[words[1]]
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= known, line
            if "--recipes" in words:
                parse_variants(words[words.index("--recipes") + 1])


@each
def test_every_python_block_is_python_and_names_what_exists(document):
    text = document.read_text()
    for block in blocks(document, "python"):
        for node in ast.walk(ast.parse(block)):
            is_ours = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            if is_ours and node.value.id == "lw":
                assert hasattr(labelwise, node.attr)
            if isinstance(node, ast.ImportFrom) and node.module.startswith("labelwise"):
                if f"`{node.module.replace('.', '/')}.py`" in text:
                    continue  # a file that the page tells how to write
                module = importlib.import_module(node.module)
                assert all(hasattr(module, name.name) for name in node.names), node.module


@pytest.mark.parametrize(
    "document", [d for d in DOCUMENTS if blocks(d, "python", RUN)], ids=lambda path: path.name
)
def test_what_is_marked_runs(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(document, "python", RUN):
        exec(compile(block, document.name, "exec"), names)


def test_the_recipe_that_is_shown_works(tmp_path, monkeypatch):
    page = ROOT / "docs" / "how-to" / "add-a-recipe.md"
    (recipe,), (test,) = (
        blocks(page, "python", f"<!-- {what} -->\n") for what in ("recipe", "test")
    )
    module = types.ModuleType("labelwise.recipe.random_filters")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(recipe, module.__name__, "exec"), module.__dict__)
    names: dict[str, Callable[[], None]] = {}
    exec(compile(test, page.name, "exec"), names)
    names["test_the_filters_come_from_the_seed_and_not_from_the_images"]()

    monkeypatch.setitem(RECIPES, "random-filters", module.RandomFilters)
    text = "random-filters(filters=16)"
    run = labelwise.compare("digits", recipes=[text], labels="100", out=tmp_path / "run")
    assert run.leaderboard["accuracy"][0] > 0.7  # one in ten by chance
    assert run.model.predict_proba(labelwise.load("digits").images([0])).shape == (1, 10)


@each
def test_every_link_and_picture_leads_to_a_file_and_a_heading(document):
    links = re.findall(r'\]\(([^)\s]+)\)|(?:src|href)="([^"]+)"', prose(document))
    for link in map("".join, links):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        place = document.parent / path if path else document
        assert place.exists(), link
        assert not anchor or anchor in anchors(place), link


def test_the_recipe_page_lists_every_recipe_preset_and_backbone():
    text = (ROOT / "docs" / "recipes.md").read_text()
    assert all(f"| `{name}` |" in text for name in RECIPES)
    for kind, presets in (("mlp", mlp.PRESETS), ("cnn", cnn.PRESETS)):
        for name in presets:
            assert name == "small" or f"{kind}(preset={name})" in text
    assert all(f"`{name}`" in text for name in PACKAGED)


def test_the_readme_names_every_recipe_and_fits_two_screens():
    text = (ROOT / "README.md").read_text()
    assert all(f"`{name}`" in text for name in RECIPES)
    assert len(text.splitlines()) <= 100
    assert len(re.findall(r"!\[|<img ", text)) == 1


def test_pictures_are_small_and_shown():
    shown = "".join(document.read_text() for document in DOCUMENTS)
    pictures = [file for file in (ROOT / "docs").rglob("*.*") if file.suffix in PICTURES]
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < 200_000, picture
        assert picture.name in shown, picture


def test_the_generated_pages_have_every_command_option_field_and_preset():
    pages = generate.generated()
    parts = re.split(r"^## labelwise ", pages["reference/commands.md"], flags=re.M)
    sections = {part.split("\n")[0]: part for part in parts[1:]}
    assert list(sections) == list(COMMANDS)
    for name, command in COMMANDS.items():
        assert f"\nlabelwise {name} " in sections[name]  # an example
        for parameter in command.params:
            option = parameter.opts[0].startswith("-")
            written = parameter.opts[0] if option else parameter.metavar
            assert f"`{written}" in sections[name], (name, written)
            assert parameter.help.replace("|", r"\|") in sections[name]
    parts = re.split(r"^## ", pages["reference/recipes.md"], flags=re.M)
    sections = {part.split("\n")[0]: part for part in parts[1:]}
    assert list(sections) == list(RECIPES)
    for name in RECIPES:
        (recipe,) = recipes(name)
        for field in recipe["fields"]:
            assert f"| `{field['name']}` | " in sections[name]
            assert field["meaning"] in sections[name]
        for preset in recipe.get("presets", ()):
            assert f"| `{preset}` | " in sections[name]


def test_links_of_a_page_lead_to_pages_of_the_site():
    place = ROOT / "docs" / "stories" / "digits.md"
    text = (
        "[a](../data.md#sources) [b](../../CONTRIBUTING.md) [c](../../examples/digits.py) [d](#e)"
    )
    assert generate.relinked(text, place, "stories/digits.md") == (
        "[a](../data.md#sources) [b](../contributing.md) [c](../code/examples/digits.md) [d](#e)"
    )


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d.name != "README.md"], ids=name)
def test_a_page_has_the_same_parts_on_github_and_on_the_site(document):
    markdown = pytest.importorskip("markdown")
    from markdown_it import MarkdownIt

    text = document.read_text()
    here = MarkdownIt("commonmark").enable("table").render(text)
    there = markdown.markdown(text, extensions=["tables", "fenced_code", "attr_list"])
    parts = {
        "p",
        "li",
        "ul",
        "ol",
        "td",
        "pre",
        "h1",
        "h2",
        "h3",
        "code",
        "strong",
        "em",
        "a",
        "img",
    }
    counts = [Counter(tag for tag, _ in Page(page).tags if tag in parts) for page in (here, there)]
    assert counts[0] == counts[1]


def test_a_story_leads_to_the_script_that_it_tells_to_run():
    text = "```sh\npython examples/first_steps.py --quick\npython examples/none.py\n```"
    line = generate.scripts_of(text, "stories/first-steps.md")
    assert line.count("](") == 1
    assert "[`examples/first_steps.py`](../code/examples/first_steps.md)" in line
    assert "code/examples/first_steps.md" in generate.generated()


def built(root: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """The site of a copy of the repository's documents, or of these."""
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, which was built without a complaint."""
    folder = tmp_path_factory.mktemp("site")
    done = built(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_has_pages_only_and_loads_nothing_from_elsewhere(site):
    assert not [file for file in site.rglob("*") if "py" in file.suffix]
    pages = list(site.rglob("*.html"))
    assert {"index.html", "commands.html", "contributing.html"} <= {page.name for page in pages}
    for page in pages:
        for tag, attributes in Page(page.read_text()).tags:
            for name in ("src", "srcset", "href", "data"):
                address = attributes.get(name) or ""
                foreign = re.match(r"(https?:)?//", address)
                assert tag == "a" or not foreign, f"{page}: {tag} {address}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text()), style


SEARCH = """
document.querySelector("[data-md-toggle=search]").click();
const field = document.querySelector(".md-search__input");
field.focus();
field.value = "group";
field.dispatchEvent(new KeyboardEvent("keyup", { bubbles: true }));
"""


@pytest.mark.browser
def test_pages_opened_from_the_disk_are_searched_and_fit_a_phone(site):
    if not any(map(shutil.which, NAMES)):
        pytest.skip("no Chromium is installed")
    with chromium((400, 800)) as browser:
        for page in ("index.html", "how-to/my-csv.html", "reference/recipes.html"):
            browser.send("Page.navigate", url=(site / page).as_uri())
            until(lambda: browser.evaluate("document.readyState") == "complete")
            assert browser.evaluate("document.documentElement.scrollWidth") <= 400, page
            browser.evaluate(f"{{{SEARCH}}}")
            until(lambda: browser.evaluate("!!document.querySelector('.md-search-result__link')"))


def until(done: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for something; fails when it does not happen."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_broken_link_or_a_page_that_nothing_leads_to_fails_the_site(tmp_path):
    for part in ("docs", "mkdocs.yml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, tmp_path / part)
    (tmp_path / "docs" / "lost.md").write_text("# Lost\n\n[a](nowhere.md) [b](data.md#nowhere)\n")
    done = built(tmp_path, tmp_path / "out")
    assert done.returncode != 0
    for complaint in ('not included in the "nav"', "'nowhere.md'", "anchor '#nowhere'"):
        assert complaint in done.stderr
