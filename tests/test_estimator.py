"""ImageClassifier: scikit-learn's contract, on arrays of images and on paths."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

from labelwise import ImageClassifier
from labelwise.errors import DataError, OptionError
from labelwise.recipe import RECIPES
from labelwise.recipe.base import Context, Fitted, Recipe
from labelwise.recipe.mlp import Mlp
from tests.coders import USES_UNLABELED
from tests.tasks import gratings, gratings_file

QUICK = "mlp(hidden=16, epochs=25, lr=0.04, batch=300, least_steps=1, patience=0)"


@pytest.fixture(scope="module")
def task():
    return gratings(12)


class Rows(ImageClassifier):
    """Rows of numbers as images of one line, so that scikit-learn's checks can reach us."""

    def fit(self, X, y=None):
        return super().fit(self._pixels(X, reset=True), y)

    def predict_proba(self, X):
        check_is_fitted(self)
        return super().predict_proba(self._pixels(X, reset=False))

    def _pixels(self, X, *, reset):
        values = validate_data(self, X, reset=reset, dtype="numeric").astype(float)
        return np.rint(255 / (1 + np.exp(-values / 3))).astype(np.uint8)[:, None, :]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = True, False
        return tags


DOES_NOT_APPLY = {
    "check_classifiers_classes": "uses -1 as a class; here it is an image without a label",
    "check_methods_subset_invariance": "asks for 1e-7; float32 sums differ with the batch's size",
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks([Rows(QUICK)], expected_failed_checks=lambda _: DOES_NOT_APPLY)
def test_it_passes_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("shape", [(12, 12), (12, 12, 1), (12, 12, 3)])
def test_it_learns_from_arrays_of_gray_and_color_images(task, shape):
    images, labels = task
    images = images[..., None].repeat(shape[-1], 3) if len(shape) == 3 else images
    names = np.array(["across", "down", "slanted"])[labels]
    classifier = ImageClassifier(QUICK).fit(images, names)
    assert classifier.classes_.tolist() == ["across", "down", "slanted"]
    assert classifier.score(images, names) > 0.9
    np.testing.assert_allclose(classifier.predict_proba(images).sum(1), 1)


def test_paths_give_what_their_pixels_give(task, tmp_path):
    images, labels = task
    paths = [tmp_path / f"{row}.png" for row in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    a = ImageClassifier(QUICK).fit(images, labels).predict_proba(images)
    b = ImageClassifier(QUICK).fit(paths, labels).predict_proba([str(path) for path in paths])
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_broken_file_is_left_out_of_learning_and_refused_where_an_answer_is_due(task, tmp_path):
    images, labels = task
    paths = [tmp_path / f"{row}.png" for row in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    paths[3].write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"1 of 36 images cannot be used.*3\.png.*not an image"):
        classifier = ImageClassifier(QUICK).fit(paths, labels)
    with pytest.raises(DataError, match=r"3\.png.*not an image.*Leave them out"):
        classifier.predict(paths)


class Recorder(Recipe):
    """Remembers what it was asked to learn from, and lets another recipe do it."""

    name = "recorder"
    regime = "for tests"
    rank = 0
    seen: list = []  # noqa: RUF012

    def fit(self, task, context) -> Fitted:
        self.seen.append(task)
        return Mlp(epochs=1).fit(task, context)

    def cost(self, task, context):
        raise NotImplementedError


@pytest.mark.parametrize("missing", [-1, "-1"])
def test_minus_one_is_an_image_without_a_label(task, missing):
    images, labels = task
    given = labels.astype(type(missing)) if missing == "-1" else labels.copy()
    given[::2] = missing
    recorder = Recorder()
    classifier = ImageClassifier(recorder).fit(images, given)
    (seen,) = recorder.seen[-1:]
    np.testing.assert_array_equal(seen.labels[1::2], labels[1::2])
    assert (seen.labels[::2] == -1).all()
    assert classifier.classes_.tolist() == [type(missing)(k) for k in range(3)]


def test_what_validation_decides_holds_for_the_fit_on_all_labels(task):
    classifier = ImageClassifier("mlp(hidden=64, epochs=30, lr=0.3, patience=1)").fit(*task)
    assert classifier.recipe_.epochs == len(classifier.history_) < 30
    assert all(record["images"] >= 36 for record in classifier.history_)  # all labels, each epoch


def test_it_works_in_pipelines_searches_and_cross_validation(task):
    images, labels = task
    scaled = make_pipeline(FunctionTransformer(lambda x: x / 255), ImageClassifier(QUICK))
    assert cross_val_score(scaled, images, labels, cv=3).mean() > 0.6  # one in three by chance
    search = GridSearchCV(ImageClassifier(), {"recipe": ["mlp(epochs=1)", QUICK]}, cv=2)
    assert search.fit(images, labels).best_params_["recipe"] == QUICK
    again = clone(search.best_estimator_)
    assert again.get_params()["recipe"] == QUICK
    assert not hasattr(again, "model_")


def test_a_pickled_classifier_answers_the_same(task):
    classifier = ImageClassifier(QUICK).fit(*task)
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(task[0]), classifier.predict_proba(task[0]))


def test_random_state_decides_everything(task):
    images, labels = task
    a, b, c = (
        ImageClassifier(QUICK, random_state=seed).fit(images, labels).predict_proba(images)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(a, b)
    assert not np.allclose(a, c)


def test_floating_point_is_read_as_it_was_when_learning(task):
    """A batch of black images alone does not tell whether 1.0 is white or nearly black."""
    images, labels = task
    unit = ImageClassifier(QUICK).fit(images / 255, labels)
    whole = ImageClassifier(QUICK).fit(images.astype(float), labels)
    ones = np.ones((1, 12, 12))
    np.testing.assert_allclose(unit.predict_proba(ones), whole.predict_proba(255 * ones))
    with pytest.raises(DataError, match=r"values from 0 to 255, but fit was given values from 0"):
        unit.predict(np.stack([0 * ones[0], 255 * ones[0]]))


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (np.zeros((4, 5), np.uint8), [0, 1, 0, 1], r"X has the shape \(4, 5\)"),
        (np.zeros((0, 5, 5), np.uint8), [], "holds no image"),
        ([np.zeros((4, 4)), np.zeros((5, 5))], [0, 1], "images of different sizes"),
        (np.full((4, 5, 5), 0.5) * [[[-1]]], [0, 1, 0, 1], "undo the normalization"),
        (np.zeros((4, 5, 5), np.uint8), [0, 1, 0], "inconsistent numbers of samples"),
        (np.zeros((4, 5, 5), np.uint8), [0, 0, 0, -1], "y holds 1 class"),
        (np.zeros((4, 5, 5), np.uint8), [0.5, 1.2, 0.1, 0.3], "[Uu]nknown label type"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_value_error(images, labels, said):
    with pytest.raises(ValueError, match=said):
        ImageClassifier(QUICK).fit(images, labels)


def test_a_recipe_that_cannot_be_read_is_refused_when_fitting(task):
    with pytest.raises(OptionError, match="there is no recipe 'net'"):
        ImageClassifier("net").fit(*task)
    with pytest.raises(DataError, match="names 2 recipes"):
        ImageClassifier("mlp, probe").fit(*task)


def test_the_model_is_one_like_any_other(task, tmp_path):
    import labelwise

    classifier = ImageClassifier(QUICK).fit(*task)
    folder = labelwise.save_model(classifier.model_, tmp_path / "model")
    source = gratings_file(tmp_path / "gratings.npz", per_class=6)
    assert len(labelwise.embed(folder, source)) == 18


def test_the_context_is_the_estimators_device_and_seed(task, monkeypatch):
    contexts: list[Context] = []
    recorder = Recorder()
    monkeypatch.setattr(
        Recorder, "fit", lambda self, task, c: contexts.append(c) or Mlp(epochs=1).fit(task, c)
    )
    ImageClassifier(recorder, device="cpu", random_state=3).fit(*task)
    expected = int(np.random.RandomState(3).randint(2**31 - 1))
    assert (contexts[0].device, contexts[0].seed) == ("cpu", expected)


@pytest.mark.parametrize("name", [n for n, kind in RECIPES.items() if kind.uses_unlabeled])
def test_images_with_the_label_minus_one_are_learned_from_as_unlabeled_ones(name):
    images, labels = gratings(20)
    some = np.where(np.arange(len(labels)) % 2, labels, -1)
    classifier = ImageClassifier(USES_UNLABELED[name]).fit(images, some)
    assert classifier.classes_.tolist() == [0, 1, 2]
    assert classifier.score(images, labels) > 0.45  # one in three by chance


def test_text_labels_may_stand_beside_the_number_minus_one():
    images, numbers = gratings(10)
    labels = np.array(["cat", "dog", "eel"], dtype=object)[numbers]
    labels[::3] = -1
    model = ImageClassifier("mlp(epochs=2)").fit(images, labels)
    assert set(model.classes_) == {"cat", "dog", "eel"}
    assert set(model.predict(images)) <= {"cat", "dog", "eel"}
