"""Which methods of a model are offered, and what the error says when there are none."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.errors import InvalidModel
from headrace.runtimes.tables.methods import MethodsRuntime
from headrace.settings import ModelSettings


class Offering(MethodsRuntime):
    """A model that offers the methods that `extra["has"]` names."""

    def load(self) -> None:
        self._model = object()
        self._offer("the model", self.settings.extra["has"])


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"has": []}, "the model has no method that can be served"),
        (
            {"has": [], "predict_fn": "score"},
            "the model has no method 'score', nor another that can be served",
        ),
        (
            {"has": ["predict"], "predict_fn": "score"},
            "the model has no method 'score'; it has 'predict'",
        ),
        ({"has": ["predict"], "methods": ["score"]}, "the model has no method 'score'"),
    ],
)
def test_a_missing_method_is_named_with_those_that_are_there(
    extra: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidModel) as refused:
        Offering(ModelSettings("m", "m.Offering", extra=extra)).load()
    assert refused.value.message == said
