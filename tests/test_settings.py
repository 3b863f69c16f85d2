from __future__ import annotations

import contextlib
from functools import partial

import pydantic
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from labelwise.data.split import LabelCount
from labelwise.errors import OptionError
from labelwise.settings import Settings, option_name, read_config, seconds, settings_of

make_settings = partial(settings_of, Settings)


def test_options_left_out_take_their_default():
    assert make_settings({"seed": None, "folds": None}) == Settings()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("folds", 0, "--folds 0: expected a whole number from 1 to 1000"),
        ("folds", "five", "--folds 'five': expected a whole number"),
        ("folds", 2.5, "--folds 2.5: expected a whole number"),
        ("repeats", 0, "--repeats 0: expected a whole number from 1 to 1000"),
        ("repeats", 1001, "--repeats 1001: expected a whole number from 1 to 1000"),
        ("test", 0, "--test 0: expected a fraction above 0 and below 1"),
        ("test", 1, "--test 1: expected a fraction"),
        ("test", 20, "--test 20: expected a fraction"),
        ("test", float("nan"), "--test nan: "),
        ("test", "some", "--test 'some': expected a fraction"),
        ("seed", -1, "--seed -1: expected a whole number from 0"),
        ("seed", 2**31, "--seed 2147483648: expected a whole number"),
        ("image_size", 3, "--image-size 3: expected pixels a side"),
        ("image_size", 4096, "--image-size 4096: expected .*2048"),
        ("labels", "4/image", "--labels '4/image': .*class"),
        ("labels", 0, "--labels '0': .*positive number"),
        ("labels", 1.5, "--labels '1.5'"),
        ("labels", ["4"], "--labels .*: expected numbers of labels"),
        ("budget", "soon", "--budget 'soon': expected a time such as 90s, 10m or 2h"),
        ("budget", 0, "--budget '0s': expected a time"),
        ("budget", "10 minutes", "--budget '10 minutes': expected a time"),
        ("budget", ["10m"], "--budget .*: expected a time"),
        ("device", "gpu", "--device 'gpu': expected auto, cpu, mps, cuda or cuda:N"),
        ("device", "cuda:", "--device 'cuda:'"),
        ("device", "cpu\n", "--device"),
        ("save_models", "none", "--save-models 'none': expected recommended or all"),
        ("metric", "speed", "metric 'speed'.*accuracy"),
        ("target", 3, "--target 3: expected the name"),
        ("backbone", 3, "--backbone 3: expected the name"),
        ("recipes", 3, "--recipes 3"),
        ("recipes", [3], "--recipes 3: expected names"),
        ("set", 3, "--set 3"),
        ("set", [None], "--set None: expected texts"),
        ("speed", 1, "there is no option 'speed'. There are --target, --labels"),
    ],
)
def test_a_wrong_value_is_refused_by_name_with_what_was_expected(name, value, message):
    with pytest.raises(OptionError, match=message):
        make_settings({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("folds", 10),
        ("test", 0.2),
        ("seed", 2**31 - 1),
        ("labels", "1,4,25/class"),
        ("metric", "balanced_accuracy"),
        ("device", "cuda:1"),
        ("device", "mps"),
        ("save_models", "all"),
        ("image_size", 32),
        ("budget", "2h"),
    ],
)
def test_a_right_value_is_kept(name, value):
    assert getattr(make_settings({name: value}), name) == value


@pytest.mark.parametrize("name", ["recipes", "set"])
def test_one_text_is_a_list_of_one(name):
    assert getattr(make_settings({name: "cnn"}), name) == ("cnn",)


def test_a_list_of_texts_is_kept_in_order():
    assert make_settings({"recipes": ["cnn", "probe"]}).recipes == ("cnn", "probe")


@pytest.mark.parametrize(("value", "expected"), [(600, 600), (90.5, 90.5), ("2m", 120)])
def test_a_budget_that_is_a_number_is_seconds(value, expected):
    assert make_settings({"budget": value}).budget_seconds == expected


def test_a_number_of_labels_may_be_a_number():
    assert make_settings({"labels": 40}).label_counts == (LabelCount(40),)


def test_settings_come_back_from_their_record():
    made = make_settings({"recipes": "cnn, probe", "labels": 4, "test": 0.2, "set": ["a.b=c"]})
    assert make_settings(made.model_dump(mode="json")) == made


def test_settings_cannot_be_changed():
    with pytest.raises(pydantic.ValidationError):
        make_settings({}).seed = 3


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.lists(st.integers() | st.text(max_size=3), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
)


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.sampled_from([*Settings.model_fields, "other"]), VALUES)
def test_any_value_is_read_or_refused(name, value):
    with contextlib.suppress(OptionError):
        assert make_settings({name: value})


def test_a_config_names_options_as_the_command_line_does(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text('image-size = 32\nsave_models = "all"\nset = ["cnn.epochs=3"]\n')
    made = make_settings(read_config(file, Settings.model_fields))
    assert (made.image_size, made.save_models, made.set) == (32, "all", ("cnn.epochs=3",))


def test_a_table_in_a_config_is_refused(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text("[cnn]\nepochs = 3\n")
    with pytest.raises(OptionError, match="'cnn' is not an option that a file can give"):
        make_settings(read_config(file, Settings.model_fields))


@pytest.mark.parametrize("content", [b"seed = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_config_that_is_not_toml_is_refused(tmp_path, content):
    file = tmp_path / "a.toml"
    file.write_bytes(content)
    with pytest.raises(OptionError, match=r"--config .*a\.toml is not TOML"):
        read_config(file, Settings.model_fields)


def test_a_config_that_is_missing_is_refused(tmp_path):
    with pytest.raises(OptionError, match=r"--config .*a\.toml: cannot be read"):
        read_config(tmp_path / "a.toml", Settings.model_fields)


@pytest.mark.parametrize(
    ("text", "value"),
    [("90s", 90), ("10m", 600), ("2h", 7200), ("1.5h", 5400), ("45", 45), (" 3 m ", 180)],
)
def test_times_are_read(text, value):
    assert seconds(text) == value


@pytest.mark.parametrize(
    "text", ["", "0", "0.0s", "-5m", "5d", "m", "1,5h", "1e3", "inf", "nan", f"{'9' * 400}s"]
)
def test_other_times_are_refused(text):
    with pytest.raises(OptionError, match=r"--budget .*: expected a time"):
        seconds(text)


def test_an_option_is_named_as_on_the_command_line():
    assert option_name("save_models") == "--save-models"
