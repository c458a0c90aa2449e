"""What is remembered by keys that callers or models choose is bounded in entries and in bytes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import headrace
from headrace.adapters import open_inference
from headrace.grpc import hpack
from headrace.http import body, parsing
from headrace.io import descriptor
from headrace.protocol import short_keys
from headrace.protocol.messages import InferenceResponse
from headrace.protocol.open_inference.known_messages import KnownAnswers
from headrace.protocol.tensor import Tensor

SOURCE = Path(headrace.__file__).parent
CACHE = re.compile(r"^\s*@?.*\b((?:functools\.)?(?:lru_cache|cache)\()|^\s*@(?:functools\.)?cache$")
# Files with caches, and who chooses the keys.
KNOWN = {
    "admin/scoring_version.py": "nobody: there is one entry",
    "codecs/fast_json.py": "nobody: there is one entry",
    "codecs/frame.py": "callers, of a bounded length",
    "codecs/values.py": "nobody: there is one entry",
    "compat/mlserver/metrics/registry.py": "nobody: there is one entry",
    "executors/memory.py": "nobody: there is one entry",
    "executors/shared_memory.py": "nobody: there is one entry",
    "http/body_members.py": "settings",
    "http/model_router.py": "models: templates of paths, and fields of a bounded length",
    "http/parsing.py": "callers, of a bounded length",
    "http/router.py": "callers, of a bounded length",
    "observability/logs.py": "nobody: there is one entry",
    "protocol/open_inference/json_faults.py": "our own classes",
    "protocol/open_inference/rest_data.py": "callers: small numbers",
    "protocol/open_inference/small_floats.py": "callers: small numbers",
    "protocol/short_keys.py": "callers, of a bounded length",
    "protocol/table_request.py": "callers: small numbers",
    "runtimes/tables/xgboost_runtime.py": "nobody: there is one entry",
}


def test_every_cache_is_known_with_who_chooses_its_keys() -> None:
    found = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if any(CACHE.match(line) for line in path.read_text().splitlines())
    }

    assert found == set(KNOWN)


LONG = "x" * 10_000
REMEMBERED = [
    (open_inference._is_accepted, b"application/json;a=%d", LONG.encode()),
    (body._choose_encoding, b"gzip;q=0.%d", LONG.encode()),
    (descriptor.may_be_json, "application/json;a=%d", LONG),
    (hpack._name, "x-%d", LONG),
]


@pytest.mark.parametrize(("function", "short", "long"), REMEMBERED)
def test_a_short_text_is_remembered_and_a_long_one_is_not(
    function: Any, short: Any, long: Any
) -> None:
    function.known.cache_clear()
    for number in range(5):
        function(short % number)
        function(short % number)
        function(long + short % number)

    assert (function.known.cache_info().currsize, function.known.cache_info().hits) == (5, 5)


def test_a_long_target_is_not_remembered() -> None:
    parsing._remembered.cache_clear()
    parsing.read_target(b"/" + LONG.encode())
    parsing.read_target(b"/short")

    assert parsing._remembered.cache_info().currsize == 1


@pytest.mark.parametrize(
    "response",
    [
        InferenceResponse([], {"p": LONG}),
        InferenceResponse([Tensor(LONG, "INT8", [1], b"1")]),
        InferenceResponse([Tensor("y", "INT8", [1], b"1", {"p": LONG})]),
    ],
    ids=["parameter", "name", "parameter of an output"],
)
def test_an_answer_with_long_words_is_not_remembered(response: InferenceResponse) -> None:
    answers = KnownAnswers()
    written = answers.write(response, "m", None, "i")

    assert written == answers.write(response, "m", None, "i")
    assert not any(LONG in str(known) for known in vars(answers).values())


def test_the_bound_is_in_characters_of_the_key() -> None:
    calls: list[str] = []
    remember = short_keys.remember_short(2)(calls.append)
    for text in ("a", "a", "b" * short_keys.LONGEST, "c" * (short_keys.LONGEST + 1)) * 2:
        remember(text)

    assert [len(text) for text in calls] == [1, 256, 257, 257]
