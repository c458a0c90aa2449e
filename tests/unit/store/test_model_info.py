"""model.yaml: its order, what comes back, and what is refused."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import InvalidInput, InvalidModel
from headrace.store.model_info import ModelContext, ModelInfo, Signature
from headrace.store.record_yaml import MOST_VALUES
from headrace.store.tag import Tag

BENTOML = """\
name: test
version: v1
module: bentoml.sklearn
labels:
  label: stringvalue
options:
  option_a: 1
metadata:
  a: 0.1
  pair: !!python/tuple
  - 1
  - 2
  part: !!python/complex '1+2j'
  span: !!python/object/apply:datetime.timedelta
  - 1
  - 2
  - 3
context:
  framework_name: testframework
  framework_versions:
    testframework: v1
  bentoml_version: 1.0.10
  python_version: 3.9.15
signatures:
  predict:
    batchable: false
  classify:
    batchable: true
    batch_dim:
    - 0
    - 1
api_version: v1
creation_time: '2022-12-01T10:45:15.419719+00:00'
"""


def read(folder: Path, text: str) -> ModelInfo:
    (folder / "model.yaml").write_text(text)
    return ModelInfo.read(folder)


def test_what_bentoml_wrote_is_written_again_byte_for_byte(tmp_path: Path) -> None:
    info = read(tmp_path, BENTOML)

    assert info.dump() == BENTOML.replace("bentoml.sklearn", "headrace.sklearn")
    assert info.signatures["classify"] == Signature(True, (0, 1))
    assert info.creation_time.year == 2022


@pytest.mark.parametrize("package", ["headrace", "bentoml", "vtsserving"])
def test_the_modules_of_those_who_wrote_such_folders_have_our_names(
    tmp_path: Path, package: str
) -> None:
    assert read(tmp_path, BENTOML.replace("bentoml.", f"{package}.")).module == "headrace.sklearn"


def test_every_kind_of_value_comes_back(tmp_path: Path) -> None:
    metadata: dict[Any, Any] = {
        "text": "ä: [", "bytes": b"\x00\xff", "flag": True, 7: 1.5, "part": -2.5 - 1j, "none": None,
        "pair": (1, (2,)), "day": datetime.date(2026, 1, 2), "clock": datetime.time(12, 34, 56),
        "moment": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        "span": datetime.timedelta(days=-1, microseconds=5), "number as text": "20240101",
        "infinite": float("inf"),
    }  # fmt: skip

    assert read(tmp_path, ModelInfo("a", "1", "m", metadata=metadata).dump()).metadata == metadata


def test_a_record_of_an_early_version_lacks_some_keys(tmp_path: Path) -> None:
    text = "name: a\nversion: 20240101\nmodule: bentoml.keras\ncreation_time: 2022-12-01 10:00:00\n"
    info = read(tmp_path, text + "bentoml_version: 1.0.0a7\npip_dependencies: []\n")

    assert (info.version, info.signatures, info.labels) == ("20240101", {}, {})
    assert info.creation_time == datetime.datetime(2022, 12, 1, 10, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "not valid YAML in line"),
        ("- 1", "expected a mapping"),
        ("", "expected a mapping"),
        ("name: !!python/object/apply:os.system ['true']", "not valid YAML"),
        ("name: !!python/name:os.system", "not valid YAML"),
        ("a: " + "[" * 100 + "]" * 100, "nested deeper"),
        (
            "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
            + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)),
            f"more than {MOST_VALUES} values",
        ),
        ("x: " + "9" * 5000, "not valid YAML"),
        (BENTOML.replace("name: test\n", "name: {}\n"), "name: expected text"),
        (BENTOML.replace("'2022-12-01T10:45:15.419719+00:00'", "soon"), "creation_time"),
        (BENTOML.replace("stringvalue", "1"), "labels.label: expected text"),
        (BENTOML.replace("    - 1\n", "    - -1\n"), "signatures.classify: batch_dim"),
        (BENTOML.replace("  predict:", "  a b:"), "'a b' is not the name of a method"),
        ("#" * (5 * 1024 * 1024), "larger than"),
    ],
    ids=range(14),
)
def test_a_bad_record_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InvalidModel, match=reason):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("given", "signature"),
    [
        ({}, Signature()),
        ({"batchable": True}, Signature(True, (0, 0))),
        ({"batchable": True, "batch_dim": 1}, Signature(True, (1, 1))),
        ({"batchable": True, "batch_dim": (0, 2)}, Signature(True, (0, 2))),
        (Signature(True), Signature(True)),
    ],
)
def test_a_signature_can_be_a_dict(given: Any, signature: Signature) -> None:
    assert Signature.of(given, "here") == signature


@pytest.mark.parametrize(
    "given",
    [1, "x", {"batchable": 1}, {"batchables": True}, {"batch_dim": "0"}, {"batch_dim": (1,)}],
)
def test_anything_else_is_not_a_signature(given: Any) -> None:
    with pytest.raises(InvalidInput, match="here"):
        Signature.of(given, "here")


def test_what_saved_a_model_is_a_dict_with_attributes(tmp_path: Path) -> None:
    info = read(tmp_path, BENTOML)

    assert info.context.framework_name == info.context["framework_name"] == "testframework"
    assert info.context.framework_versions == {"testframework": "v1"}
    assert info.tag == Tag("test", "v1")
    assert ModelContext("f", {"f": "1"}, self="x") == {
        "framework_name": "f",
        "framework_versions": {"f": "1"},
        "self": "x",
    }
    assert (ModelContext().framework_name, ModelContext().framework_versions) == ("", {})
