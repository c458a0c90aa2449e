"""Which scikit-learn models answer an array exactly as they do a table of the same numbers.

To look at the columns of a table of one row takes scikit-learn several times as long as to predict.
Most of its own estimators only compare their names with those of training, and go on with an array.
A model that never sees names neither compares them nor warns that they are missing.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

# By module, the classes that turn a table into an array before anything else. Others may select
# columns, look at their dtypes, or give the table to estimators of their own. A test fits each.
_ALIKE: dict[str, frozenset[str]] = {
    "cluster": frozenset(("BisectingKMeans", "KMeans", "MiniBatchKMeans")),
    "cross_decomposition": frozenset(("PLSRegression",)),
    "decomposition": frozenset(("FastICA", "IncrementalPCA", "PCA", "TruncatedSVD")),
    "discriminant_analysis": frozenset(
        ("LinearDiscriminantAnalysis", "QuadraticDiscriminantAnalysis")
    ),
    "ensemble": frozenset(
        (
            *("ExtraTreesClassifier", "ExtraTreesRegressor", "GradientBoostingClassifier"),
            *("GradientBoostingRegressor", "HistGradientBoostingClassifier"),
            *("HistGradientBoostingRegressor", "IsolationForest", "RandomForestClassifier"),
            "RandomForestRegressor",
        )
    ),
    "gaussian_process": frozenset(("GaussianProcessClassifier", "GaussianProcessRegressor")),
    "impute": frozenset(("SimpleImputer",)),
    "kernel_ridge": frozenset(("KernelRidge",)),
    "linear_model": frozenset(
        (
            *("ARDRegression", "BayesianRidge", "ElasticNet", "ElasticNetCV", "GammaRegressor"),
            *("HuberRegressor", "Lars", "LarsCV", "Lasso", "LassoCV", "LassoLars", "LassoLarsCV"),
            *("LassoLarsIC", "LinearRegression", "LogisticRegression", "LogisticRegressionCV"),
            *("OrthogonalMatchingPursuit", "OrthogonalMatchingPursuitCV", "Perceptron"),
            *("PoissonRegressor", "QuantileRegressor", "Ridge", "RidgeCV", "RidgeClassifier"),
            *("RidgeClassifierCV", "SGDClassifier", "SGDOneClassSVM", "SGDRegressor"),
            *("TheilSenRegressor", "TweedieRegressor"),
        )
    ),
    "mixture": frozenset(("BayesianGaussianMixture", "GaussianMixture")),
    "naive_bayes": frozenset(("BernoulliNB", "ComplementNB", "GaussianNB", "MultinomialNB")),
    "neighbors": frozenset(
        (
            *("KNeighborsClassifier", "KNeighborsRegressor", "NearestCentroid"),
            *("RadiusNeighborsClassifier", "RadiusNeighborsRegressor"),
        )
    ),
    "neural_network": frozenset(("MLPClassifier", "MLPRegressor")),
    "preprocessing": frozenset(
        (
            *("MaxAbsScaler", "MinMaxScaler", "Normalizer", "PolynomialFeatures"),
            *("PowerTransformer", "QuantileTransformer", "RobustScaler", "StandardScaler"),
        )
    ),
    "svm": frozenset(("LinearSVC", "LinearSVR", "NuSVC", "NuSVR", "OneClassSVM", "SVC", "SVR")),
    "tree": frozenset(
        (
            *("DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier"),
            "ExtraTreeRegressor",
        )
    ),
}


def for_arrays(model: Any, labels: Sequence[Any]) -> Any:
    """A model whose answer to an array is that of `model` to a table with columns of these labels.

    It shares the fitted attributes of `model`. Returns None if `model` has to see the table, or
    was trained with other labels: then scikit-learn itself warns or refuses.
    """
    if _is(model, "pipeline", "Pipeline"):
        return _pipeline(model, labels)
    module = type(model).__module__.split(".")
    is_alike = module[0] == "sklearn" and type(model).__name__ in _ALIKE.get(module[1], ())
    # A boosting model with categories finds them by the columns of the table.
    if not is_alike or getattr(model, "is_categorical_", None) is not None:
        return None
    own = vars(model)
    names = own.get("feature_names_in_")
    # Labels that are not text are not compared with anything.
    given = list(labels) if any(isinstance(label, str) for label in labels) else None
    if given != (None if names is None else list(names)):
        return None
    if _has_own_methods(model) or own.get("_sklearn_output_config") or _wraps_all_outputs():
        return None
    nameless = copy.copy(model)
    if names is not None:
        del nameless.feature_names_in_
    return nameless


def _pipeline(model: Any, labels: Sequence[Any]) -> Any:
    """A pipeline whose first step takes arrays; the others get what that one returns."""
    (name, first), *others = model.steps
    nameless = for_arrays(first, labels)
    if nameless is None or _has_own_methods(model):
        return None
    found = copy.copy(model)
    found.steps = [(name, nameless), *others]
    return found


def _is(model: Any, module: str, name: str) -> bool:
    found = type(model).__module__.split(".")
    return found[:2] == ["sklearn", module] and type(model).__name__ == name


def _has_own_methods(model: Any) -> bool:
    """Whether somebody has replaced a method of this one object."""
    return any(callable(getattr(type(model), name, None)) for name in vars(model))


def _wraps_all_outputs() -> bool:
    """Whether scikit-learn is told to answer with tables, which have the labels of rows too."""
    import sklearn

    return bool(sklearn.get_config().get("transform_output", "default") != "default")
