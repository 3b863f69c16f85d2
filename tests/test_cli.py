"""The command line as a user meets it: exit status, messages, output."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest

import labelwise
from labelwise import cli, tables
from tests.images import class_folders, write
from tests.tasks import gratings_file

COMMANDS = [
    "demo",
    "check",
    "compare",
    "train",
    "evaluate",
    "predict",
    "embed",
    "map",
    "recipes",
    "doctor",
]


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a command in this process: (exit status, stdout, stderr)."""
    # The test process' own allocator, OpenMP settings and signals stay as they are.
    monkeypatch.setattr(cli.process, "keep_memory", lambda: None)
    monkeypatch.setattr(cli.process, "_fix_output", lambda: None)
    monkeypatch.setattr(cli.process, "_end_orderly", lambda: None)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["labelwise", *map(str, words)])
        try:
            cli.main()
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return gratings_file(tmp_path_factory.mktemp("data") / "gratings.npz", 12)


@pytest.fixture(scope="module")
def run(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return labelwise.compare(source, out=out, recipes="mlp(epochs=4)")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, call):
    status, out, _ = call(command, "--help")
    assert status == 0
    assert f"labelwise {command}" in out.split("Example", 1)[1]


def test_help_lists_every_command(call):
    status, out, _ = call("--help")
    assert status == 0
    assert all(command in out for command in COMMANDS)


def test_version(call):
    assert call("--version") == (0, f"labelwise {labelwise.__version__}\n", "")


def test_compare_prints_the_leaderboard_and_the_path_of_the_report_last(call, source, tmp_path):
    status, out, err = call(
        "compare", source, "--out", tmp_path / "run", "--recipes", "mlp(epochs=2)"
    )
    assert status == 0
    assert "mlp" in out
    assert out.splitlines()[-1] == str((tmp_path / "run" / "report.html").resolve())
    assert "left" in err  # progress


def test_the_leaderboard_leaves_out_what_all_rows_share(run, capsys):
    from rich.console import Console

    from labelwise.tables import leaderboard_table

    def head(results):
        Console(width=80).print(leaderboard_table(results))
        return capsys.readouterr().out.split("─")[0].split()

    assert head(run.results) == ["variant", "accuracy", "95", "%", "interval", "train", "s/fit"]
    (row,) = run.results["rows"]
    few = {**row, "labels": "4-per-class", "test": row["metrics"]}
    wide = head({**run.results, "rows": [row, few]})
    assert set(wide) - set(head(run.results)) == {"labels", "test"}


def test_json_is_one_document_and_quiet_says_nothing(call, source, tmp_path):
    words = ("compare", source, "--out", tmp_path / "run", "--recipes", "mlp(epochs=2)", "--quiet")
    status, out, err = call(*words, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["recommended"] == "mlp"


def test_options_come_from_a_file_and_the_command_line_wins(call, source, tmp_path):
    config = tmp_path / "options.toml"
    config.write_text(
        'recipes = "mlp(epochs=2)"\nseed = 5\nimage-size = 8\nset = ["mlp.lr=0.01"]\n'
    )
    status, _, err = call(
        "compare", source, "--out", tmp_path / "run", "--config", config, "--seed", 6, "--quiet"
    )
    assert (status, err) == (0, "")
    settings = labelwise.Run(tmp_path / "run").record["settings"]
    assert (settings["seed"], settings["image_size"]) == (6, 8)
    assert settings["set"] == ["mlp.lr=0.01"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--folds", "0"), "--folds 0"),
        (("--folds", "40"), "--folds 40"),
        (("--repeats", "0"), "--repeats 0"),
        (("--test", "1.5"), "--test 1.5"),
        (("--seed", "-1"), "--seed -1"),
        (("--metric", "luck"), "luck"),
        (("--labels", "some"), "--labels 'some'"),
        (("--labels", "4/image"), "'class'"),
        (("--labels", "2"), "--labels 2"),
        (("--budget", "soon"), "--budget 'soon'"),
        (("--device", "tpu"), "--device"),
        (("--image-size", "1"), "--image-size 1"),
        (("--recipes", "cnm"), "did you mean 'cnn'?"),
        (("--recipes", "cnn("), "expected a field at the end"),
        (("--recipes", "cnn(epochs=many)"), "cnn(epochs=many)"),
        (("--recipes", "cnn(preset=x)"), "there is no such preset"),
        (("--recipes", "cnn(layers='conv9')"), "give the kernel"),
        (("--recipes", "cnn,cnn"), "Two variants are named 'cnn'"),
        (("--recipes", "../x=cnn"), "Variant name '../x'"),
        (("--set", "epochs=3"), "expected variant.field=value"),
        (("--recipes", "mlp", "--set", "cnn.epochs=3"), "there is no variant 'cnn'"),
        (("--config", "nowhere.toml"), "nowhere.toml"),
        (("--target", "species"), "species"),
        (("--save-models", "some"), "--save-models"),
        (("--recipes", "probe", "--backbone", "resnet0"), "'resnet0' is not a known backbone"),
    ],
)
def test_a_wrong_option_is_one_message_and_status_2(call, source, tmp_path, words, message):
    status, out, err = call("compare", source, "--out", tmp_path / "run", "--quiet", *words)
    assert status == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("compare",),
        ("compare", "digits"),
        ("compare", "nowhere", "--out", "x"),
        ("check", "nowhere"),
        ("predict", "nowhere", "x.png"),
        ("evaluate", "nowhere", "digits"),
        ("recipes", "magic"),
        ("fly",),
        ("compare", "digits", "--out", "x", "--fly"),
    ],
)
def test_an_unusable_call_is_status_2_without_a_traceback(call, words):
    status, _, err = call(*words)
    assert status == 2
    assert err
    assert "Traceback" not in err


def test_recipes_shows_the_ranges_that_tune_searches(call):
    ranges = {"lr": "0.0001..0.03 (log)", "batch": "16 | 32 | 64 | 128", "hidden.depth": "1..3"}
    shown = call("recipes", "mlp")[1].partition("Searched by labelwise tune")[2].splitlines()
    fields = json.loads(call("recipes", "mlp", "--json")[1])[0]["fields"]
    found = {name: text for field in fields for name, text in field["search"].items()}
    assert ranges.items() <= found.items()
    assert [line for line in shown[1:] if line] == [f"  {n}: {text}" for n, text in found.items()]


def test_a_resumed_train_with_another_recipe_is_told_by_its_own_option(call, source, tmp_path):
    words = ("train", source, "--out", tmp_path / "run", "--quiet", "--recipe")
    assert call(*words, "mlp(epochs=1)")[0] == 0
    _, _, err = call(*words, "mlp(epochs=2)", "--resume")
    assert "--recipe 'mlp(epochs=2)': this run began with 'mlp(epochs=1)'" in err


def test_a_run_that_fails_is_status_1(call, source, tmp_path):
    status, _, err = call(
        "compare",
        source,
        "--out",
        tmp_path / "run",
        "--recipes",
        "mlp(epochs=2,lr=1e30)",
        "--quiet",
    )
    assert status == 1
    assert "learning rate" in err


def test_check_counts_every_file(call, tmp_path):
    class_folders(tmp_path, {"cat": 6, "dog": 6})
    (tmp_path / "cat" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    status, out, _ = call("check", tmp_path, "--json")
    assert status == 0
    found = json.loads(out)
    assert len(found["files"]) == 13
    assert [f["decision"] for f in found["files"]].count("set aside") == 1
    status, out, _ = call("check", tmp_path)
    assert status == 0
    assert "cat" in out


def test_predict_prints_a_table_csv_or_json_and_writes_parquet(call, run, tmp_path):
    image = write(tmp_path / "[red]a.png")  # not markup
    status, out, _ = call("predict", run.folder, tmp_path)
    assert status == 0
    assert "[red]a.png" in out.replace("\n", "").replace(" ", "")
    status, out, _ = call("predict", run.folder, image, "--format", "csv")
    table = pd.read_csv(io.StringIO(out))
    assert list(table.columns) == ["path", "label", "probability", "set", "status"]
    status, out, _ = call("predict", run.folder, image, "--format", "json")
    (row,) = json.loads(out)
    assert row["label"] in ("across", "down", "slanted")
    assert row["status"] == "ok"
    target = tmp_path / "answers.parquet"
    assert call("predict", run.folder, image, "--format", "parquet", "--out", target)[0] == 0
    assert pd.read_parquet(target)["label"].tolist() == [row["label"]]


def test_predict_refuses_a_format_before_it_works(call, run):
    status, _, err = call("predict", run.folder, "x.png", "--format", "xml")
    assert status == 2
    assert "choose from" in err
    assert call("predict", run.folder, "x.png", "--format", "parquet")[0] == 2


def test_evaluate_judges_by_class_names_and_warns_of_familiar_data(call, run, source, tmp_path):
    status, out, _ = call("evaluate", run.folder, source, "--json")
    assert status == 0
    found = json.loads(out)
    assert found["n"] == 36
    assert any("has learned from 36 of the 36 images" in text for text in found["warnings"])
    status, _, err = call("evaluate", run.folder, class_folders(tmp_path / "p", {"x": 2, "y": 2}))
    assert status == 2
    assert "does not know 2 of the 2 classes" in err


def test_evaluate_prints_metrics_with_intervals(call, run, source):
    status, out, _ = call("evaluate", run.folder, source)
    assert status == 0
    assert "accuracy" in out
    assert " to " in out


def test_recipes_lists_all_and_details_one(call):
    status, out, _ = call("recipes")
    assert status == 0
    assert all(name in out for name in ("mlp", "cnn", "probe"))
    status, out, _ = call("recipes", "cnn", "--json")
    (details,) = json.loads(out)
    assert "digits" in details["presets"]


def test_recipes_writes_defaults_and_presets_as_a_variant_has_them(call):
    shown = call("recipes", "mlp")[1]
    assert "hidden         256-64 " in shown
    assert "first-mlp: hidden=32-16, " in shown
    assert "base        probe " in call("recipes", "self-training")[1]


def test_doctor_shows_versions_backbones_and_the_store(call):
    status, out, _ = call("doctor", "--json")
    assert status == 0
    found = json.loads(out)
    assert found["versions"]["labelwise"] == labelwise.__version__
    assert found["backbones"]["efficientnet-lite0"].startswith("ready")
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())[
        "project"
    ]
    assert set(found["extras"]) == set(project["optional-dependencies"]) - {"dev", "docs"}
    status, out, _ = call("doctor", "--empty-cache")
    assert status == 0
    assert "efficientnet-lite0" in out


def test_doctor_lists_the_device_of_a_mac(monkeypatch):
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert "mps" in labelwise.doctor()["devices"]


def test_demo_without_its_photos_names_the_extra(call, tmp_path, monkeypatch):
    monkeypatch.setattr("labelwise.data.packaged.find_spec", lambda name: None)
    status, _, err = call("demo", "--out", tmp_path / "run")
    assert status == 2
    assert "pip install 'labelwise[demo]'" in err


def test_ctrl_c_is_one_line_and_status_130(call, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("labelwise.machine.doctor", interrupted)
    status, _, err = call("doctor")
    assert status == 130
    assert "--resume" in err


def test_the_installed_command_works_as_a_process(tmp_path):
    """With file names that are not Unicode, into a pipe that is closed early."""
    name = tmp_path / "a" / b"\xff\xfe.png".decode("utf-8", "surrogateescape")
    write(tmp_path / "b" / "x.png", 1)
    write(tmp_path / "a" / "y.png", 2)
    write(tmp_path / "z.png", 3).rename(name)
    command = [sys.executable, "-m", "labelwise.cli", "check", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert Path(name).exists()


@pytest.mark.parametrize("line", ["out = 'x'", "resume = true", "data = 'x'", "recipes = 'mlp'"])
def test_a_file_cannot_give_what_is_no_option(call, source, tmp_path, line):
    config = tmp_path / "c.toml"
    config.write_text(line)
    words = ("train", source, "--recipe", "mlp(epochs=1)", "--out", tmp_path / "run")
    status, _, err = call(*words, "--config", config, "--quiet")
    assert status == 2
    assert "is not an option that a file can give" in err


def test_a_truth_value_is_no_number(call, source, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text("test = true")
    status, _, err = call("compare", source, "--out", tmp_path / "r", "--config", config, "--quiet")
    assert status == 2
    assert "test = True" in err


@pytest.mark.parametrize("kind", ["table", "csv", "json"])
def test_a_name_that_is_no_unicode_or_steers_terminals_is_shown_escaped(call, run, tmp_path, kind):
    good = write(tmp_path / "x.png")
    good.rename(tmp_path / b"bad\xff.png".decode("utf-8", "surrogateescape"))
    write(tmp_path / "\x1b[31mred.png")
    status, out, err = call("predict", run.folder, tmp_path, "--format", kind)
    assert (status, err) == (0, "")
    if kind == "table":
        assert "\x1b" not in out


def test_predict_on_an_empty_folder_says_so(call, run, tmp_path):
    status, _, err = call("predict", run.folder, tmp_path)
    assert status == 0
    assert "no file" in err


def test_predictions_are_not_written_over_a_folder(call, run, tmp_path):
    status, _, err = call("predict", run.folder, tmp_path, "--format", "csv", "--out", tmp_path)
    assert status == 2
    assert "this is a folder" in err


@pytest.mark.parametrize(
    ("cause", "status", "word"),
    [(KeyboardInterrupt(), 130, "interrupted"), (SystemExit(143), 143, "terminated")],
)
def test_an_interruption_in_the_middle_of_an_import_is_one(call, monkeypatch, cause, status, word):
    def interrupted(name):
        raise RuntimeError("Error calling __set_name__") from cause

    monkeypatch.setattr("labelwise.recipe.describe.recipes", interrupted)
    found, _, err = call("recipes")
    assert found == status
    assert word in err
    assert "Traceback" not in err


def test_another_error_stays_what_it_is(call, monkeypatch):
    def broken(name):
        raise RuntimeError("a defect")

    monkeypatch.setattr("labelwise.recipe.describe.recipes", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        call("recipes")


def test_a_share_that_is_not_quite_all_is_not_rounded_up_to_it():
    assert tables.number("accuracy", 0.9998) == "99.9 %"
    assert tables.interval("accuracy", {"low": 0.9996, "high": 1.0}) == "99.9 to 100 %"
