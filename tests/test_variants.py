from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelwise.errors import LayerError, OptionError
from labelwise.recipe import RECIPES, cnn, mlp, variants
from labelwise.recipe.base import Recipe, option
from labelwise.recipe.cnn import Cnn
from labelwise.recipe.mlp import Mlp
from labelwise.recipe.probe import Probe
from labelwise.recipe.variants import parse_variants, variant_text


@dataclass(frozen=True)
class Wrapped(Recipe):
    """A recipe around another one."""

    name = "wrapped"
    regime = "for tests"
    rank = 9

    base: Recipe = option(Mlp(), "what is wrapped")
    share: float = option(0.5, "a number")

    def fit(self, task, context):
        raise NotImplementedError

    def cost(self, task, context):
        raise NotImplementedError


@pytest.fixture(autouse=True)
def _wrapped(monkeypatch):
    monkeypatch.setitem(RECIPES, "wrapped", Wrapped)


def only(text, **options):
    (variant,) = parse_variants(text, **options)
    return variant


def names(texts, **options):
    return [variant.name for variant in parse_variants(texts, **options)]


def test_a_recipe_is_named_by_itself():
    assert only("cnn") == variants.Variant("cnn", Cnn())


def test_variants_stand_between_commas():
    assert names("cnn, probe ,mlp") == ["cnn", "probe", "mlp"]


def test_variants_may_come_as_several_texts():
    assert names(["cnn,probe", "mlp"]) == ["cnn", "probe", "mlp"]


def test_a_variant_may_have_a_name():
    assert names("cnn, pool=cnn(preset=mammals-pool)") == ["cnn", "pool"]


def test_fields_are_given_in_parentheses():
    recipe = only("cnn(preset=digits, epochs=3, lr=1e-4)").recipe
    assert recipe == Cnn(preset="digits", epochs=3, lr=1e-4)


def test_spaces_and_a_last_comma_do_not_matter():
    assert only(" x = cnn ( epochs = 3 , ) ") == only("x=cnn(epochs=3)")


@pytest.mark.parametrize("mark", ["'", '"'])
def test_a_value_in_quotes_may_hold_anything(mark):
    text = f"cnn(layers={mark}conv16 3x3 relu, max 2{mark})"
    assert only(text).recipe.layers == "conv16 3x3 relu, max 2"


def test_a_recipe_may_stand_in_a_recipe():
    recipe = only("st=wrapped(base=mlp(hidden=8-4, lr=0.5), share=0.1)").recipe
    assert recipe == Wrapped(Mlp(hidden=(8, 4), lr=0.5), 0.1)


def test_a_recipe_in_a_recipe_needs_no_parentheses():
    assert only("wrapped(base=probe)").recipe == Wrapped(Probe())


def test_recipes_nest():
    recipe = only("wrapped(base=wrapped(base=wrapped(base=cnn)))").recipe
    assert recipe == Wrapped(Wrapped(Wrapped(Cnn())))


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("cnn(epochs=5)", "epochs", 5),
        ("cnn(lr=0.1)", "lr", 0.1),
        ("cnn(image_size=none)", "image_size", None),
        ("cnn(optimizer=sgd)", "optimizer", "sgd"),
        ("mlp(hidden=256-64)", "hidden", (256, 64)),
        ("mlp(hidden='32 16')", "hidden", (32, 16)),
        ("mlp(hidden=10)", "hidden", (10,)),
        ("probe(backbone=efficientnet-lite0)", "backbone", "efficientnet-lite0"),
    ],
)
def test_a_value_has_the_type_of_its_field(text, field, value):
    assert repr(getattr(only(text).recipe, field)) == repr(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a recipe at the end"),
        ("cnn,", "expected a recipe at the end"),
        (",cnn", "expected a recipe before ','"),
        ("cnn mlp", "expected ',' before 'mlp'"),
        ("cnn)", r"expected ',' before '\)'"),
        ("cnn(", "expected a field at the end"),
        ("cnn(epochs", "expected '=' at the end"),
        ("cnn(epochs)", r"expected '=' before '\)'"),
        ("cnn(epochs=)", r"expected a value before '\)'"),
        ("cnn(epochs=5", "expected ',' at the end"),
        ("cnn(epochs=5 lr=1)", "expected ',' before 'lr'"),
        ("cnn(epochs=5, epochs=6)", "'epochs' is given twice"),
        ("cnn('epochs'=5)", "expected a field, not 'epochs' in quotes"),
        ("'cnn'", "expected a recipe, not 'cnn' in quotes"),
        ("a=b=cnn", "expected ',' before '='"),
        ('cnn(layers="conv16 3x3)', "quotation mark is not closed"),
        ("cnn(layers=conv16 3x3)", "expected ',' before '3x3'"),
        ("nnc", "no recipe 'nnc'; did you mean 'cnn'"),
        ("cnn(epoch=5)", "no field of cnn 'epoch'; did you mean 'epochs'"),
        ("cnn(name=5)", "no field of cnn 'name'"),
        ("cnn(epochs=many)", r"cnn\(epochs=many\): input should be a valid integer"),
        ("cnn(epochs=1.5)", r"cnn\(epochs=1.5\)"),
        ("cnn(optimizer=rmsprop)", "'adamw' or 'muon'"),
        ("cnn(preset=large)", r"cnn\(preset=large\): there is no such preset.*digits"),
        ("cnn(epochs=0)", r"cnn\(epochs=0\): must be positive"),
        ("cnn(lr=-1)", r"cnn\(lr=-1.0\): must be positive"),
        ("cnn(lr=nan)", r"cnn\(lr=nan\): must be positive"),
        ("cnn(lr=inf)", r"cnn\(lr=inf\): must be positive"),
        ("cnn(patience=-1)", r"cnn\(patience=-1\)"),
        ("cnn(image_size=3)", r"cnn\(image_size=3\): must be from 4 to 2048"),
        ("mlp(hidden=0)", r"mlp\(hidden=\(0,\)\): give positive numbers"),
        ("mlp(hidden=wide)", r"mlp\(hidden=wide\)"),
        ("mlp(hidden=-)", r"mlp\(hidden=\(\)\): give positive numbers"),
        ("cnn(lr=probe)", r"cnn\(lr=probe\): input should be a valid number"),
        ("cnn(preset=probe(strength=1))", r"cnn\(preset=probe\): input should be a valid string"),
        ("wrapped(base=5)", r"wrapped\(base=5\)"),
        ("wrapped(base=big(a=1))", "no recipe 'big'"),
        ("Big=cnn", "Variant name 'Big': use lower-case"),
        ("../x=cnn", "Variant name '../x'"),
        (f"{'a' * 65}=cnn", "at most 64"),
        ("cnn, mlp, cnn", "Two variants are named 'cnn'"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(text, message):
    with pytest.raises(OptionError, match=message):
        parse_variants(text)


def test_no_recipe_at_all_is_refused():
    with pytest.raises(OptionError, match="No recipe is named. Choose from mlp, cnn, probe"):
        parse_variants([])


def test_layers_that_cannot_be_read_are_refused():
    with pytest.raises(LayerError, match="'blur 3'"):
        parse_variants("cnn(layers='blur 3')")


def test_a_setting_overrides_the_text():
    assert only("cnn(epochs=3)", settings=["cnn.epochs=5"]).recipe.epochs == 5


def test_the_last_setting_counts():
    assert only("cnn", settings=["cnn.epochs=5", "cnn.epochs=6"]).recipe.epochs == 6


def test_a_setting_is_of_one_variant():
    first, second = parse_variants("cnn, b.1=cnn", settings=["b.1.epochs=5"])
    assert (first.recipe.epochs, second.recipe.epochs) == (None, 5)


def test_a_setting_may_have_quotes_and_equal_signs():
    recipe = only("cnn", settings=["cnn.layers='conv16 3x3 relu, max 2'"]).recipe
    assert recipe.layers == "conv16 3x3 relu, max 2"


def test_a_setting_of_a_preset_changes_what_it_stands_for():
    assert only("cnn", settings=["cnn.preset=digits"]).recipe == Cnn(preset="digits")


def test_a_setting_overrides_a_made_recipe():
    assert only([Cnn(epochs=3)], settings=["cnn.epochs=5"]).recipe == Cnn(epochs=5)


@pytest.mark.parametrize("texts", ["cnn", [Cnn()]], ids=["text", "made"])
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs=5", "--set 'epochs=5': expected variant.field=value"),
        ("cnn.epochs", "--set 'cnn.epochs': expected variant.field=value"),
        ("nnc.epochs=5", "--set 'nnc.epochs=5': there is no variant 'nnc'; did you mean 'cnn'"),
        ("cnn.epoch=5", "no field of cnn 'epoch'; did you mean 'epochs'"),
        ("cnn.name=x", "no field of cnn 'name'"),
        ("cnn.epochs=x", r"cnn\(epochs=x\): input should be a valid integer"),
        ("cnn.epochs=0", r"cnn\(epochs=0\): must be positive"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(texts, setting, message):
    with pytest.raises(OptionError, match=message):
        parse_variants(texts, settings=[setting])


def test_a_default_fills_fields_that_are_not_given():
    given_, open_, without = parse_variants(
        "a=cnn(image_size=8), cnn, wrapped", defaults={"image_size": 16}
    )
    assert (given_.recipe.image_size, open_.recipe.image_size) == (8, 16)
    assert without.recipe == Wrapped(Mlp(image_size=16))


def test_a_default_reaches_the_recipe_in_a_recipe():
    recipe = only("wrapped(base=probe)", defaults={"backbone": "other"}).recipe
    assert recipe.base.backbone == "other"


def test_an_open_default_changes_nothing():
    assert only("probe", defaults={"backbone": None}).recipe == Probe()


def test_a_made_recipe_keeps_its_values():
    assert only([Cnn(image_size=8)], defaults={"image_size": 16}).recipe.image_size == 8


def test_a_default_reaches_what_a_made_recipe_leaves_open():
    defaults = {"image_size": 16, "unheard": 3}
    found = parse_variants([Mlp(), Wrapped(Cnn())], defaults=defaults)
    assert found[0].recipe.image_size == found[1].recipe.base.image_size == 16
    assert only([Wrapped(Cnn(image_size=8))], defaults=defaults).recipe.base.image_size == 8


@dataclasses.dataclass(frozen=True)
class Demanding(Mlp):
    """A field that has to be given."""

    wanted: int = dataclasses.field(kw_only=True)


def test_a_made_recipe_may_have_fields_that_have_to_be_given():
    found = only([Demanding(wanted=2)], defaults={"image_size": 16}).recipe
    assert (found.wanted, found.image_size) == (2, 16)


@pytest.mark.parametrize(
    "text",
    [f"cnn(preset={name})" for name in cnn.PRESETS]
    + [f"mlp(preset={name})" for name in mlp.PRESETS],
)
def test_every_preset_fills_every_field(text):
    recipe = only(text).recipe
    open_ = {f.name for f in dataclasses.fields(recipe) if getattr(recipe, f.name) is None}
    planned = {"width"} if recipe.preset == "fast" else set()
    assert open_ <= {"image_size", "epochs", "color", "backbone"} | planned


def test_the_values_of_a_preset_give_way_to_given_ones():
    recipe = only("cnn(preset=digits, lr=0.5, decay=cosine)").recipe
    assert (recipe.lr, recipe.decay, recipe.batch) == (0.5, "cosine", 32)


@pytest.mark.parametrize(
    ("text", "optimizer", "lr", "batch", "epochs"),
    [
        ("mlp(preset=first-mlp)", "sgd", 0.01, 128, 10),
        ("mlp(preset=first-mlp-color)", "sgd", 0.01, 128, 20),
        ("cnn(preset=digits)", "adam", 1e-3, 32, 10),
        ("cnn(preset=first-cnn)", "sgd", 0.01, 128, 10),
        ("cnn(preset=mammals-stride)", "adam", 1e-3, 200, 20),
        ("cnn(preset=mammals-pool)", "adam", 1e-3, 200, 20),
        ("cnn(preset=stl5)", "adam", 1e-3, 32, 10),
    ],
)
def test_a_course_preset_is_that_of_the_design(text, optimizer, lr, batch, epochs):
    recipe = only(text).recipe
    found = (recipe.optimizer, recipe.lr, recipe.batch, recipe.epochs)
    assert found == (optimizer, lr, batch, epochs)
    assert (recipe.decay, recipe.patience, recipe.scale) == ("constant", 0, "unit")


@pytest.mark.parametrize("text", ["cnn", "mlp", "probe", "wrapped(base=mlp(hidden=3-4))"])
def test_a_configuration_goes_through_json(text):
    configuration = only(text).recipe.configuration
    assert json.loads(json.dumps(configuration)) == configuration


def test_a_recipe_with_open_epochs_takes_those_planned():
    assert Cnn().planned(7).epochs == 7


def test_given_epochs_are_not_planned():
    assert (Cnn(epochs=3).planned(7).epochs, Cnn(epochs=3).open_epochs) == (3, None)


def test_the_final_fit_runs_the_median_best_epoch():
    chosen: Sequence[dict[str, int]] = [{"best_epoch": epoch} for epoch in (9, 2, 4)]
    assert Cnn().settled(chosen).epochs == 4


def test_without_folds_a_recipe_stays_as_it_is():
    assert Cnn().settled([]) == Cnn()


WORDS = [
    *["cnn", "mlp", "probe", "wrapped", "(", ")", "=", ",", '"', "'", " ", "-", "none", "small"],
    *["preset", "epochs", "lr", "hidden", "base", "image_size", "layers", "strength", "5", "0.1"],
    *["1e999", "nan", "9" * 25, "relu", "digits"],
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=4), max_size=14).map("".join))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(OptionError, LayerError):
        assert parse_variants(text)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["cnn", "mlp", "probe"]),
    st.sampled_from(["preset", "epochs", "lr", "hidden", "image_size", "layers", "strength"]),
    st.sampled_from(WORDS) | st.text(st.characters(codec=None), max_size=6),
)
def test_any_setting_is_read_or_refused(recipe, field, value):
    with contextlib.suppress(OptionError, LayerError):
        assert parse_variants(recipe, settings=[f"{recipe}.{field}={value}"])


@pytest.mark.parametrize(
    "text",
    [
        "cnn",
        "probe(strength=0.5)",
        "mlp(preset=dense10)",
        'tuned=cnn(lr=0.00154, batch=16, layers="conv8 3x3 relu, max 2, gap")',
        "mlp(preset=dense10, hidden=32-16)",
        "wide=mlp(patience=0, image_size=8)",
    ],
)
def test_the_text_of_a_variant_is_read_as_that_variant_again(text):
    (variant,) = parse_variants(text)
    assert variant_text(variant) == text
    assert parse_variants(variant_text(variant)) == (variant,)


def test_a_field_that_a_preset_sets_and_the_variant_takes_back_stands_in_its_text():
    (variant,) = parse_variants("mlp(preset=dense10, lr=0.5, scale=standard)")
    assert parse_variants(variant_text(variant)) == (variant,)
    assert "scale=standard" in variant_text(variant)
