"""How to repeat the run: the call, the settings, versions and the machine."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from labelwise.recipe import RECIPES
from labelwise.recipe.variants import Variant, recipe_of, variant_text
from labelwise.report import text
from labelwise.report.run_folder import RunFolder


def facts(run: RunFolder) -> dict[str, Any]:
    """Everything in run.json that repeats the run, as shown."""
    record = run.record
    machine = record["machine"]
    return {
        "command": _command(record),
        "settings": [text.field(name, value) for name, value in record["settings"].items()],
        "versions": list(record["versions"].items()),
        "machine": [
            ("system", text.plain(machine["system"])),
            ("cores", text.count(machine["cores"])),
            ("memory", text.size(machine["memory_bytes"])),
        ],
        "data": [
            ("data", text.plain(record["data"]["name"])),
            ("label column", text.plain(record["data"]["target"] or "only one")),
            ("images", text.count(record["data"]["images"])),
            ("labeled", text.count(record["data"]["labeled"])),
            ("fingerprint", text.plain(record["data"]["fingerprint"])),
        ],
        "backbones": [
            (text.plain(origin["name"]), text.plain(f"license {origin['license']}"))
            for origin in record.get("backbones", ())
        ],
        "plan": [
            (text.plain(name), text.plain(sentence))
            for name, sentence in record["plan"]["sentences"].items()
        ],
        "started": text.moment(record["started"]),
        "seconds": text.seconds(record.get("seconds")),
    }


def _command(record: Mapping[str, Any]) -> str:
    """The command line as it was given, or the call in Python that does the same."""
    if record["command"]:
        return text.plain(shlex.join(map(str, record["command"])))
    texts = [_variant(name, values) for name, values in record["variants"].items()]
    one = len(texts) == 1
    arguments = {"recipe": texts[0]} if one else {"recipes": texts}
    arguments |= {
        name: value
        for name, value in record["settings"].items()
        if value not in (None, []) and name not in ("recipes", "set")  # the variants have these
    }
    lines = "".join(f"    {name}={value!r},\n" for name, value in arguments.items())
    source = record["data"]["source"]
    return (
        "import labelwise as lw\n\n"
        f"lw.{'train' if one else 'compare'}(\n    {source!r},\n    out='another-folder',\n{lines})"
    )


def _variant(name: str, configuration: Mapping[str, Any]) -> str:
    """Its text; of a recipe that is not one of labelwise's own, which has none, the name."""
    if configuration["name"] not in RECIPES:
        return name
    return variant_text(Variant(name, recipe_of(configuration)))


def protocol(run: RunFolder) -> list[tuple[str, str]]:
    """Who learned, who decided, who judged, in a few facts."""
    record = run.record
    settings = record["settings"]
    folds = record["folds"]
    table = run.table
    test = int(((table["split"] == "test") & table["label"].notna()).sum())
    judged = (
        f"{folds} folds, stratified by class, duplicates and groups kept together"
        if folds > 1
        else "one held-out part"
    )
    return [
        ("held-out numbers", judged),
        ("repeats", text.count(run.repeats)),
        ("numbers of labels", ", ".join(text.labels_name(name) for name in run.label_counts)),
        (
            "decided on",
            "20 % of each train part for early stopping, or its inner folds for strengths; below "
            "5 labels per class nothing is held back",
        ),
        ("test part", text.counted(test, "image") if test else "none"),
        ("seed", text.count(settings["seed"])),
        ("compared by", settings["metric"].replace("_", " ")),
    ]
