"""The layers: imports point one way, and the command line starts fast."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import labelwise

ROOT = Path(labelwise.__file__).parent

# A module uses only names of its own layer's folder and of layers before it.
LAYERS = [
    ["errors", "plain"],
    ["files"],
    ["foreign", "download"],
    ["data", "measure"],
    ["nn"],
    ["store", "backbones"],
    ["engine"],
    ["features"],
    ["activations"],
    ["model"],
    ["architecture"],
    ["description"],
    ["bundle"],
    ["transfer", "mixed", "novelty", "judging", "held_out", "attribution", "neighborhood"],
    ["recipe"],
    ["progress", "settings", "machine", "checks", "overlap"],
    ["estimate"],
    ["candidate"],
    ["plan", "folders", "pictures"],
    ["record", "twins"],
    ["trials"],
    ["fitting"],
    ["leaderboard", "epochs"],
    ["ensemble", "report"],
    ["execute"],
    ["run", "use", "embedding", "estimator"],
    ["tuning", "likeness", "atlas", "explaining", "leafing", "auditing"],
    ["showcase", "tables"],
    ["cli"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def place(module: str) -> str:
    """The first part of a module's name below the package."""
    return module.removeprefix("labelwise.").split(".")[0]


def imports(tree: ast.AST) -> set[str]:
    """Names of labelwise modules that a file imports anywhere in it, also for types."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("labelwise"):
            if node.module == "labelwise":
                found |= {alias.name for alias in node.names if not alias.name.startswith("__")}
            else:
                found.add(place(node.module))
        if isinstance(node, ast.Import):
            found |= {place(a.name) for a in node.names if a.name.startswith("labelwise.")}
    return found


def test_every_module_has_a_layer():
    modules = {path.stem for path in ROOT.glob("*.py") if path.stem != "__init__"}
    folders = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert modules | folders == set(LEVEL)


def test_imports_point_one_way_down_the_layers():
    wrong = []
    for path in ROOT.rglob("*.py"):
        if path == ROOT / "__init__.py":
            continue
        own = place(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for name in imports(ast.parse(path.read_text())):
            if name != own and LEVEL[name] >= LEVEL[own]:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_measure_knows_no_torch_and_no_dataset():
    code = "import labelwise.measure, sys; print('torch' in sys.modules, 'timm' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]


def test_the_command_line_loads_nothing_heavy_for_its_help():
    """What makes --help answer at once; the seconds are measured in benchmarks/start.py."""
    code = (
        "import sys, labelwise.cli; heavy = {'torch', 'numpy', 'pandas', 'sklearn', 'timm', 'rich',"
        " 'PIL', 'scipy', 'pydantic'}; print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_run_without_a_pretrained_network_does_not_wait_for_timm():
    code = "import labelwise.run, sys; print('timm' in sys.modules, 'scipy.stats' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]


def test_the_public_names_are_these():
    """A change here is a change of the contract: say it in CHANGELOG.md."""
    assert set(labelwise.__all__) == set(labelwise._PLACES)
    assert sorted(labelwise.__all__) == [
        "Dataset",
        "Evaluation",
        "ImageClassifier",
        "Model",
        "Recipe",
        "Run",
        "audit",
        "check",
        "compare",
        "demo",
        "doctor",
        "embed",
        "evaluate",
        "explain",
        "judge",
        "load",
        "load_model",
        "map_embeddings",
        "mistakes",
        "predict",
        "recipes",
        "save_model",
        "similar",
        "train",
        "tune",
    ]
    for name in labelwise.__all__:
        assert getattr(labelwise, name).__doc__
