"""Arrays in place of tables: only for models of scikit-learn to which they are the same."""

import importlib
import warnings
from itertools import product

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor, VotingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from headrace.runtimes.tables.sklearn_arrays import _ALIKE, for_arrays

LABELS = ["a", "b", "c", "d"]
ROWS = np.abs(np.random.default_rng(7).normal(size=(60, 4)))
TABLE = pd.DataFrame(ROWS, columns=LABELS)
SUMS = TABLE.sum(axis=1)
CLASSES = (SUMS.median() < SUMS).astype(int)
METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "transform")


class Doubled(LinearRegression):
    """A user's own, which may do anything with a table."""

    def predict(self, X):
        return 2 * super().predict(X[["a", "b", "c", "d"]])


def fitted(model, table=TABLE):
    target = CLASSES if hasattr(model, "classes_") or "Classif" in type(model).__name__ else SUMS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return model.fit(table, target)
        except ValueError:
            # A classifier by another name.
            return model.fit(table, CLASSES)


def answer(model, method, value):
    """The bits of an answer and the warnings on the way, or what the model raises."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            found = getattr(model, method)(value)
        except ValueError as error:
            return str(error)
    dense = found.toarray() if hasattr(found, "toarray") else found
    return type(found), dense.dtype, dense.tobytes(), [str(each.message) for each in seen]


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module, names in _ALIKE.items() for name in sorted(names)],
)
def test_an_estimator_answers_an_array_as_it_does_a_table_to_the_bit(module, name):
    cls = getattr(importlib.import_module(f"sklearn.{module}"), name, None)
    if cls is None:
        pytest.skip(f"this version of scikit-learn has no {name}")
    model = fitted(cls())
    nameless = for_arrays(model, LABELS)
    methods = [method for method in METHODS if hasattr(model, method)]
    for rows, dtype in product((1, 9), (np.float64, np.float32, np.int64)):
        table = (TABLE[:rows] * 10).astype(dtype)
        array = np.array(table, order="F")
        for method in methods:
            assert answer(nameless, method, array) == answer(model, method, table)
    assert list(model.feature_names_in_) == LABELS


def test_a_pipeline_answers_an_array_if_its_first_step_does():
    model = fitted(make_pipeline(StandardScaler(), FunctionTransformer(), LogisticRegression()))
    nameless = for_arrays(model, LABELS)
    expected = answer(model, "predict_proba", TABLE)
    assert answer(nameless, "predict_proba", np.asarray(TABLE)) == expected
    assert list(model.feature_names_in_) == LABELS


def test_columns_whose_labels_are_numbers_are_not_compared():
    model = fitted(LinearRegression(), pd.DataFrame(ROWS))
    expected = answer(model, "predict", pd.DataFrame(ROWS))
    assert answer(for_arrays(model, range(4)), "predict", ROWS.copy("F")) == expected


def with_own_predict():
    model = fitted(LinearRegression())
    model.predict = lambda table: table["a"].to_numpy()
    return model


@pytest.mark.parametrize(
    "model",
    [
        Doubled(),
        VotingRegressor([("one", LinearRegression())]),
        CalibratedClassifierCV(LogisticRegression(), cv=2),
        FunctionTransformer(lambda table: table[["a"]]),
        make_pipeline(make_column_transformer(("passthrough", ["b"])), LinearRegression()),
        make_pipeline(StandardScaler().set_output(transform="pandas"), LinearRegression()),
        make_pipeline("passthrough", LinearRegression()),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_model_that_may_look_at_the_table_itself_gets_it(model):
    assert for_arrays(fitted(model), LABELS) is None


def test_a_model_with_categories_gets_the_table():
    table = TABLE.assign(a=pd.Categorical(["x", "y"] * 30))
    model = HistGradientBoostingRegressor(categorical_features="from_dtype").fit(table, SUMS)
    assert for_arrays(model, LABELS) is None


def test_a_model_whose_method_was_replaced_gets_the_table():
    assert for_arrays(with_own_predict(), LABELS) is None


@pytest.mark.parametrize(
    ("table", "labels"),
    [
        (TABLE, ["b", "a", "c", "d"]),
        (TABLE, range(4)),
        (pd.DataFrame(ROWS), LABELS),
        (TABLE, ["a", "b", "c", 3]),
    ],
    ids=["other order", "no names", "fitted without names", "mixed labels"],
)
def test_labels_that_scikit_learn_warns_of_or_refuses_are_left_to_it(table, labels):
    assert for_arrays(fitted(LinearRegression(), table), labels) is None
