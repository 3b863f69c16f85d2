"""Every wrong call ends in one clear message: nothing else reaches the terminal, whatever it holds.

Missing permissions are not tried: the tests may run as root, to whom every file is open.
"""

from __future__ import annotations

import json
import shutil
import sys
import unicodedata

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import labelwise
from labelwise import run as run_module
from labelwise.errors import LabelwiseError, OptionError, RunError
from labelwise.plain import LONGEST_MESSAGE, message_line, plain
from labelwise.tuning.disk import Tuning
from tests import test_cli
from tests.images import class_folders
from tests.tasks import gratings_file

call = test_cli.call  # the fixture: run a command in this process
LONG = "x" * 10_000
STEERING = "\x1b[31mred\x07\r"
REACHED = "the run would begin here"

tried = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# A NUL cannot be in an argument of a process, nor a lone surrogate but for undecodable bytes.
words = st.one_of(
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=40),
    st.sampled_from(["", " ", "-1", "0", "nan", "inf", "1e999", "9" * 400, LONG, STEERING]),
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return gratings_file(tmp_path_factory.mktemp("data") / "gratings.npz", 6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("photos"), {"cat": 6, "dog": 6})


def refuse(*_):
    raise RunError(REACHED)


@pytest.fixture
def stubbed(monkeypatch):
    """Runs end where their work would begin, after all that is checked."""
    monkeypatch.setattr(run_module, "execute", refuse)


@pytest.fixture(scope="module")
def begun(source, tmp_path_factory):
    """A run that was interrupted before its first trial."""
    out = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "execute", refuse)
        with pytest.raises(RunError):
            labelwise.compare(source, out=out, recipes="mlp(epochs=1)")
    return out


def refused(answer) -> str:
    """The message of a call that was refused as it should be."""
    status, out, err = answer
    assert status == 2, err
    assert out == ""
    return one_message(err)


def one_message(err: str) -> str:
    """The message in what was printed, which holds nothing else."""
    assert err.startswith("labelwise: ")
    assert err.endswith("\n")
    message = err.removeprefix("labelwise: ").removesuffix("\n")
    assert message.strip()
    assert not [char for char in message if unicodedata.category(char) in ("Cc", "Cf", "Cs")]
    assert len(message) < 2_000
    return message


def refused_or_begun(answer) -> None:
    """One message and status 2, or everything was right and the run would begin."""
    status, _, err = answer
    if status == 1:
        assert one_message(err) == REACHED
    else:
        refused(answer)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        # the call
        (["compare"], ["Missing argument 'DATA'", "labelwise compare --help"]),
        (["fly"], ["No such command 'fly'", "--help"]),
        (["compare", "DATA", "--outt", "x"], ["--outt", "--out", "labelwise compare --help"]),
        (["check", "DATA", "more"], ["unexpected extra argument", "more"]),
        (["check", "DATA", "--target"], ["'--target' requires an argument"]),
        (["check", "DATA", "--json=3"], ["'--json' does not take a value"]),
        (["recipes", "magic"], ["'magic'", "cnn"]),
        # numbers, and what is none
        (["compare", "--folds", "five"], ["--folds 'five'", "whole number from 1 to 1000"]),
        (["compare", "--folds", ""], ["--folds ''", "whole number"]),
        (["compare", "--folds", "2.5"], ["--folds 2.5", "whole number"]),
        (["compare", "--repeats", "9" * 30], ["--repeats 999", "from 1 to 1000"]),
        (["compare", "--test", "nan"], ["--test 'nan'", "above 0 and below 1"]),
        (["compare", "--seed", "1", "--seed", "x"], ["--seed 'x'", "from 0 to 2147483647"]),
        (["compare", "--image-size", "-8"], ["--image-size -8", "from 4 to 2048"]),
        (["compare", "--color", "pink"], ["--color 'pink'", "rgb or gray"]),
        (["compare", "--budget", "inf"], ["--budget 'inf'", "10m"]),
        (["compare", "--labels", ","], ["--labels ','", "1,4,25/class"]),
        # what does not fit the data
        (["compare", "--labels", "900"], ["--labels 900", "give a number from 3 to"]),
        (["compare", "--folds", "900"], ["--folds 900", "has 18", "--folds 18"]),
        (["compare", "--metric", "top_3"], ["'top_3'", "3 classes", "accuracy"]),
        (["compare", "--test", "0.999"], ["--test 0.999", "two classes"]),
        (["compare", "--test", "0.0001"], ["--test 0.0001", "larger share"]),
        (["compare", "--target", STEERING], [r"\x1b[31mred\x07\r", "only 'label'"]),
        # recipes
        (["compare", "--recipes", ""], ["expected a recipe at the end"]),
        (["compare", "--recipes", "mlp="], ["expected a recipe at the end"]),
        (["compare", "--recipes", "mlp)"], ["expected ','"]),
        (["compare", "--recipes", '"mlp'], ["quotation mark is not closed"]),
        (["compare", "--recipes", "cnn(epochs=x)"], ["cnn(epochs=x)", "valid integer"]),
        (["compare", "--recipes", "mlp(epochs=" * 2000], ["inside of each other"]),
        (["compare", "--recipes", "probe", "--backbone", ""], ["'' is not a known backbone"]),
        (["compare", "--recipes", "probe", "--backbone", LONG], ["is not a known backbone"]),
        (["compare", "--recipes", "probe", "--backbone", "~no one/x"], ["not a known backbone"]),
        (["compare", "--set", "."], ["--set '.'", "cnn.epochs=5"]),
        (["train", "DATA", "--out", "OUT", "--recipe", "mlp,cnn"], ["names 2 recipes", "compare"]),
        (["train", "DATA", "--out", "OUT", "--recipe", ""], ["--recipe ''", "expected a recipe"]),
        (["tune", "DATA", "--out", "OUT", "--recipe", "mlp("], ["--recipe 'mlp('", "a field"]),
        (["tune", "DATA", "--out", "OUT", "--recipe", "a,b"], ["--recipe 'a,b' names 2 recipes"]),
        (["tune", "DATA", "--out", "OUT", "--recipe", "mlp", "--set", "lr"], ["expected field="]),
        (["tune", "DATA", "--out", "OUT", "--recipe", "mlp", "--set", "mlp.lr=1"], ["--set 'mlp"]),
        # places
        (["compare", "--out", "FILE"], ["this is a file"]),
        (["compare", "--out", "FILE/run"], ["cannot be written", "Give another one"]),
        (["compare", "--out", LONG], ["there can be no such folder", "Give another one"]),
        (["compare", "--out", ""], ["the folder exists already"]),
        (["compare", "PHOTOS", "--out", "PHOTOS/run"], ["inside of the data", "outside of it"]),
        (["tune", "PHOTOS", "--recipe", "mlp", "--out", "PHOTOS/run"], ["inside of the data"]),
        (["compare", "PHOTOS", "--out", "PHOTOS"], ["the folder exists already"]),
        (["compare", "--config", "PHOTOS"], ["--config", "cannot be read"]),
        (["check", ""], ["'' names no data", "Expected a folder of images"]),
        (["check", LONG], ["does not exist"]),
        (["check", STEERING], [r"\x1b[31mred\x07\r", "does not exist"]),
        (["check", "~no one/x"], ["does not exist"]),
        (["check", "/dev/null"], ["pipe or a device"]),
        (["check", "digit"], ["Did you mean 'digits'"]),
        (["embed", "nothing", "DATA", "--out", "OUT.csv"], [".parquet"]),
        (["embed", "nothing", "DATA", "--out", "OUT.parquet"], ["'nothing' is not a known"]),
        (["predict", "PHOTOS", "x.png"], ["model.json does not exist", "saved model"]),
        (["evaluate", "FILE", "DATA"], ["does not exist", "saved model"]),
        (["predict", "PHOTOS", "x.png", "--format", STEERING], ["choose from table, csv"]),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
@pytest.mark.usefixtures("stubbed")
def test_a_wrong_call_is_one_message_that_says_what_to_do(
    call,
    source,
    folder,
    tmp_path,
    arguments,
    parts,
):
    (tmp_path / "a-file").write_text("x")
    places = {"DATA": source, "PHOTOS": folder, "FILE": tmp_path / "a-file", "OUT": tmp_path / "o"}
    if arguments[0] == "compare" and len(arguments) > 1:
        if arguments[1].startswith("--"):
            arguments = ["compare", "DATA", *arguments[1:]]
        if "--out" not in arguments and "--outt" not in arguments:
            arguments = [*arguments, "--out", "OUT"]
        arguments = [*arguments, "--quiet"]
    for name, place in places.items():
        arguments = [word.replace(name, str(place)) for word in arguments]
    message = refused(call(*arguments))
    assert [part for part in parts if part not in message] == [], message


def test_the_bare_command_shows_its_help(call):
    status, out, err = call()
    assert (status, out) == (2, "")
    assert "Commands:" in err


def test_the_default_number_of_folds_is_not_called_an_option_of_the_user(tmp_path, call):
    data = class_folders(tmp_path / "photos", {"cat": 2, "dog": 2})
    message = refused(call("compare", data, "--out", tmp_path / "run", "--quiet"))
    assert message.startswith("5 folds (the default): 5 independent labeled images are needed")
    assert "has 4" in message
    assert "--folds 4" in message


@given(text=st.text(max_size=3000))
def test_a_message_is_one_short_line_of_visible_characters(text):
    line = message_line(text)
    assert line == plain(line)
    assert len(line) <= LONGEST_MESSAGE + len(" [...] ")


def test_a_long_message_keeps_its_beginning_and_its_advice():
    line = message_line(f"--labels {LONG!r}: give a number.")
    assert line.startswith("--labels 'xxx")
    assert line.endswith("xxx': give a number.")


OPTIONS = ["--folds", "--repeats", "--test", "--seed", "--metric", "--labels", "--budget"]
OPTIONS += ["--device", "--image-size", "--color", "--resize", "--recipes", "--set", "--target"]
OPTIONS += ["--save-models", "--config"]


@tried
@given(option=st.sampled_from(OPTIONS), value=words)
@pytest.mark.usefixtures("stubbed")
def test_any_value_of_any_option_is_used_or_refused(call, source, tmp_path, option, value):
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    more = ["--recipes", "mlp(epochs=1)"] if option != "--recipes" else []
    words = ["compare", source, "--out", tmp_path / "run", "--quiet", *more]
    refused_or_begun(call(*words, f"{option}={value}"))


grammar = st.lists(
    st.sampled_from(
        ["mlp", "cnn", "epochs", "lr", "1", "x", "=", "(", ")", ",", ".", "'", '"', " "]
    )
    | st.text(max_size=3),
    max_size=12,
).map("".join)


@tried
@given(recipes=grammar, change=grammar)
@pytest.mark.usefixtures("stubbed")
def test_any_text_of_recipes_and_settings_is_read_or_refused(
    call, source, tmp_path, recipes, change
):
    assume("\0" not in recipes + change)
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    words = ["compare", source, "--out", tmp_path / "run", "--quiet", f"--recipes={recipes}"]
    refused_or_begun(call(*words, f"--set={change}"))


plain_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
json_values = st.recursive(
    plain_values,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@tried
@given(
    content=st.binary(max_size=60)
    | st.text(max_size=60).map(str.encode)
    | st.tuples(
        st.sampled_from(["folds", "seed", "test", "set", "recipes", "budget", "labels", "x"]),
        st.sampled_from(["true", "[]", "[1]", "{}", "nan", "-inf", "'a'", "1979-05-27", "['a=b']"]),
    ).map(lambda pair: " = ".join(pair).encode())
)
@pytest.mark.usefixtures("stubbed")
def test_any_config_is_read_or_refused(call, source, tmp_path, content):
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    (tmp_path / "c.toml").write_bytes(content)
    words = ["compare", source, "--out", tmp_path / "run", "--quiet", "--recipes", "mlp(epochs=1)"]
    refused_or_begun(call(*words, "--config", tmp_path / "c.toml"))


columns = st.sampled_from(["path", "label", "split", "group", "", " ", "x", STEERING])


@tried
@given(
    rows=st.lists(
        st.dictionaries(columns, json_values | st.sampled_from(["cat/000.png", "train"])),
        max_size=4,
    ),
    kind=st.sampled_from(["jsonl", "csv", "tsv", "txt"]),
)
def test_any_manifest_is_read_or_refused(call, folder, rows, kind):
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [json.dumps(row) for row in rows]
    if kind != "jsonl":
        lines = [",".join(names), *(",".join(str(row.get(n, "")) for n in names) for row in rows)]
    manifest = folder / f"manifest.{kind}"
    manifest.write_text("\n".join(lines), errors="backslashreplace")
    answer = call("check", manifest, "--json")
    manifest.unlink()
    if answer[0] == 0:
        json.loads(answer[1])
    else:
        refused(answer)


FIELDS = ["status", "data", "settings", "variants", "folds", "plan", "warnings", "versions"]


@tried
@given(field=st.sampled_from(FIELDS), value=json_values, whole=st.booleans())
@pytest.mark.usefixtures("stubbed")
def test_any_damage_of_a_begun_run_is_found(call, source, begun, field, value, whole):
    file = begun / "run.json"
    good = file.read_text()
    file.write_text(json.dumps(value if whole else {**json.loads(good), field: value}))
    try:
        refused_or_begun(call("compare", source, "--out", begun, "--quiet", "--resume"))
    finally:
        file.write_text(good)


@pytest.mark.parametrize("name", ["run.json", "folds.parquet", "data.parquet"])
@pytest.mark.parametrize("content", [None, b"", b"junk", b"[" * 100_000, b"\xff\xfe"])
@pytest.mark.usefixtures("stubbed")
def test_a_damaged_file_of_a_run_is_named(call, source, begun, tmp_path, name, content):
    run = shutil.copytree(begun, tmp_path / "run")
    (run / name).unlink()
    if content is not None:
        (run / name).write_bytes(content)
    elif name == "run.json":
        pytest.skip("a folder without run.json is a run that has not begun")
    message = refused(call("compare", source, "--out", run, "--quiet", "--resume"))
    assert f"{name} is damaged, or from another version" in message
    assert "another --out" in message


@pytest.mark.parametrize("name", ["trial.json", "predictions.parquet", "leaderboard.json"])
def test_a_damaged_result_is_named(call, source, tmp_path, name):
    words = ("compare", source, "--out", tmp_path / "run", "--quiet", "--recipes", "mlp(epochs=1)")
    assert call(*words)[0] == 0
    file = next((tmp_path / "run").rglob(name))
    file.write_bytes(b"{}")
    record = tmp_path / "run" / "run.json"
    if name != "leaderboard.json":  # which only a finished run reads
        record.write_text(json.dumps({**json.loads(record.read_text()), "status": "running"}))
    message = refused(call(*words, "--resume"))
    assert f"{name} is damaged" in message


WRONG = [None, 3, b"x", [], ["a"], {}, object(), np.zeros(3)]


@pytest.mark.parametrize("value", WRONG, ids=lambda value: type(value).__name__)
def test_a_wrong_type_from_python_is_refused_by_every_function(source, tmp_path, value):
    model = labelwise.ImageClassifier("mlp(epochs=1)")
    out = tmp_path / "run"
    images = np.zeros((2, 8, 8), np.uint8)
    calls = {
        "load": lambda: labelwise.load(value),
        "check": lambda: labelwise.check(value),
        "compare": lambda: labelwise.compare(value, out=out),
        "compare out": lambda: labelwise.compare(source, out=value),
        "train": lambda: labelwise.train(source, recipe=value, out=out),
        "tune": lambda: labelwise.tune(value, recipe="mlp", out=out),
        "tune recipe": lambda: labelwise.tune(source, recipe=value, out=out),
        "tune out": lambda: labelwise.tune(source, recipe="mlp", out=value),
        "Tuning": lambda: Tuning(value),
        "evaluate": lambda: labelwise.evaluate(value, source),
        "predict": lambda: labelwise.predict(value, "x.png"),
        "embed": lambda: labelwise.embed(value, source),
        "demo": lambda: labelwise.demo(value),
        "Run": lambda: labelwise.Run(value),
        "recipe": lambda: labelwise.ImageClassifier(value).fit(images, [0, 1]),
    }
    if value is not None:  # which stands for the default
        calls["recipes"] = lambda: labelwise.recipes(value)
        calls["X"] = lambda: model.fit(value, [0, 1])
    for name, function in calls.items():
        with pytest.raises((LabelwiseError, ValueError)) as caught:
            function()
        assert isinstance(caught.value, LabelwiseError) or name == "X", name  # scikit-learn's own
        assert str(caught.value), name


def test_a_list_with_something_else_than_recipes_is_refused(source, tmp_path):
    with pytest.raises(OptionError, match="--recipes 3: expected the text of a recipe"):
        labelwise.compare(source, out=tmp_path / "run", recipes=["mlp", 3])


def test_a_device_that_is_not_there_is_refused_by_the_estimator():
    images = np.zeros((4, 8, 8), np.uint8)
    with pytest.raises(OptionError, match="not usable here"):
        labelwise.ImageClassifier("mlp(epochs=1)", device="abacus").fit(images, [0, 1, 0, 1])


def test_a_manifest_in_a_table_of_numbers_is_refused_by_column(call, tmp_path):
    pd.DataFrame({"path": ["x"], "label": [1.5]}).to_parquet(tmp_path / "m.parquet")
    message = refused(call("check", tmp_path / "m.parquet"))
    assert "column 'label'" in message
    assert "1.5" in message


def test_a_pipe_is_not_waited_for(call, tmp_path):
    if sys.platform == "win32":
        pytest.skip("Windows has no named pipes in folders")
    import os

    os.mkfifo(tmp_path / "pipe.csv")
    assert "pipe or a device" in refused(call("check", tmp_path / "pipe.csv"))
