"""`import bentoml`, `import vtsserving` and `import headrace as bentoml`, which find ours."""

from __future__ import annotations

import subprocess
import sys

import pytest

import headrace
from headrace import errors
from headrace.compat.bentoml import ELSEWHERE, MODULES, NAMES, exceptions

OFFER = "from headrace.compat import alias; alias.offer()\n"


def run(program, *path):
    program = f"import sys; sys.path[:0] = {list(map(str, path))!r}\n" + program
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def printed(program, *path):
    result = run(program, *path)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("name", ["bentoml", "vtsserving"])
def test_a_service_file_finds_our_descriptors(name):
    program = f"""
import {name}
from {name}.io import NumpyNdarray, JSON
import {name}.io as descriptors
from {name}.exceptions import BadInput
import headrace.io, headrace.errors
spec = {name}.io.NumpyNdarray(dtype="float32", shape=[-1, 1, 28, 28], enforce_shape=True)
assert NumpyNdarray is headrace.io.NumpyNdarray is descriptors.NumpyNdarray
assert BadInput is headrace.errors.InvalidInput
assert {name}.exceptions.BadInput is BadInput
print(spec, {name}.__version__)
"""
    assert printed(OFFER + program) == "NumpyNdarray(dtype=float32, shape=(-1, 1, 28, 28)) 1.0.25"


def test_both_names_give_the_same_classes():
    program = "import bentoml, vtsserving, vtsserving.io, bentoml.io\n"

    assert printed(
        OFFER + program + "print(bentoml is vtsserving, bentoml.io is vtsserving.io)"
    ) == ("True True")


def test_headrace_itself_may_be_imported_as_bentoml():
    program = """
import headrace as bentoml
from headrace.io import Text
assert bentoml.io.Text is Text
assert issubclass(bentoml.exceptions.BadInput, bentoml.exceptions.BentoMLException)
print(sorted(name for name in sys.modules if name in ("pandas", "PIL", "pydantic", "msgspec")))
"""
    assert printed(program) == "[]"


def test_importing_bentoml_imports_no_framework():
    program = (
        "import bentoml\nprint(*sorted(name for name in sys.modules if name[:9] == 'headrace.'))"
    )

    assert "headrace.io" not in printed(OFFER + program).split()


def test_an_installed_bentoml_is_found_first(tmp_path):
    (tmp_path / "bentoml").mkdir()
    (tmp_path / "bentoml/__init__.py").write_text("name = 'the real one'")

    program = "import bentoml\nfrom importlib.util import find_spec\n"
    program += "print(bentoml.name, find_spec('bentoml.io'))"
    assert printed(OFFER + program, tmp_path) == "the real one None"


@pytest.mark.parametrize("statement", ["import bentoml.triton", "from bentoml import triton"])
def test_a_name_that_we_do_not_have_is_an_import_error(statement):
    result = run(OFFER + statement)

    assert result.returncode == 1
    assert "bentoml" in result.stderr
    assert "triton" in result.stderr.splitlines()[-1]


def test_a_name_that_we_do_not_have_is_refused_with_the_page_that_lists_what_we_have():
    with pytest.raises(AttributeError, match=r"has no 'odd'; docs/how-to/from-bentoml\.md"):
        headrace.compat.bentoml.odd  # noqa: B018


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_name_that_something_else_takes_the_place_of_is_refused_with_that(name):
    with pytest.raises(AttributeError, match=f"has no '{name}': .*; docs/"):
        getattr(headrace.compat.bentoml, name)


@pytest.mark.parametrize("name", [*MODULES, *NAMES])
def test_what_bentoml_has_is_found_where_headrace_is_imported_as_bentoml(name):
    # `Model` is the base class of models of one's own there.
    if name != "Model":
        assert getattr(headrace, name) is getattr(headrace.compat.bentoml, name)


def test_metrics_are_those_of_prometheus():
    program = """
import bentoml
from bentoml.metrics import Histogram
import prometheus_client
assert Histogram is bentoml.metrics.Histogram is prometheus_client.Histogram
try:
    bentoml.metrics.Odd
except AttributeError as error:
    print(error)
"""
    assert printed(OFFER + program).startswith("Headrace's 'bentoml.metrics' has no 'Odd', only")


@pytest.mark.parametrize("name", [*MODULES, *NAMES])
def test_a_name_is_there_or_its_absence_is_explained(name):
    program = f"""
import bentoml
try:
    bentoml.{name}
except ImportError as error:
    assert str(error).startswith("'bentoml.{name}' is headrace."), error
"""
    printed(OFFER + program)


@pytest.mark.parametrize("name", ["Service", "mlflow", "models", "Client", "io"])
def test_a_public_name_is_there_or_its_absence_is_explained(name):
    program = f"""
import headrace
try:
    headrace.{name}
except ImportError as error:
    assert str(error).startswith("'headrace.{name}' needs headrace."), error
"""
    printed(program)


def test_the_missing_library_of_a_module_is_not_mistaken_for_the_module(tmp_path):
    program = """
import headrace, types
from importlib.machinery import ModuleSpec
class Broken:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name == "headrace.sklearn" else None
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        import joblib_that_is_missing
sys.meta_path.insert(0, Broken())
try:
    headrace.sklearn
except ModuleNotFoundError as error:
    print(error.name)
"""
    assert printed(program) == "joblib_that_is_missing"


def test_an_error_of_ours_is_caught_by_bentomls_name():
    for raised, name in (
        (errors.NotFound, "NotFound"),
        (errors.InvalidInput, "BadInput"),
        (errors.InvalidInput, "InvalidArgument"),
        (errors.Overloaded, "ServiceUnavailable"),
        (errors.MissingDependency, "MissingDependencyException"),
        (errors.ConfigurationError, "BentoMLConfigException"),
        (errors.BadModelOutput, "BentoMLException"),
    ):
        with pytest.raises(getattr(exceptions, name), match="why"):
            raise raised("why")


def test_a_class_with_an_error_code_declares_the_status_of_its_answer():
    class Teapot(exceptions.BentoMLException):
        error_code = 418

    assert exceptions.declared_status(Teapot("short")) == 418
    assert exceptions.declared_status(exceptions.UnprocessableEntity("x")) == 422
    assert exceptions.declared_status(exceptions.BadInput("x")) is None
    assert exceptions.declared_status(ValueError("x")) is None
