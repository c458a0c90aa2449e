"""A script that is served and defines no service: what it holds is named, with how to serve it."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.errors import InvalidModel
from headrace.runtimes.service import service_file

EXPECTED = r"expected a Service, such as svc = headrace.Service\('name'\), found "


@pytest.mark.parametrize(
    ("name", "source", "found"),
    [
        (
            "own_class",
            "import headrace\nclass Mine(headrace.Model): pass",
            'the model class \'Mine\'; .*"implementation": "own_class.Mine"',
        ),
        (
            "from_code",
            "import mlflow\nclass Mine(mlflow.pyfunc.PythonModel):\n"
            "    def predict(self, model_input: list[str]): return model_input\n"
            "mlflow.models.set_model(Mine())",
            r"'Mine', a model of MLflow; save it with .*python_model='from_code.py'\)",
        ),
        (
            "training",
            "from sklearn.linear_model import Ridge\nmodel = Ridge().fit([[1], [2]], [1, 2])",
            "'model', a Ridge; a script that makes a model saves it",
        ),
        ("helpers", "def clean(row): return row", "'clean'$"),
        ("empty", "", "nothing$"),
    ],
)
def test_a_script_without_a_service_says_what_was_found_and_expected(
    name: str, source: str, found: str, tmp_path: Path
) -> None:
    (tmp_path / f"{name}.py").write_text(source)

    with pytest.raises(InvalidModel, match=EXPECTED + found):
        service_file.load(name, "", str(tmp_path))
