"""Counters in the form of Triton's statistics."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from headrace.dataplane.call import Call
from headrace.dataplane.observers.call_counters import MetricsObserver
from headrace.dataplane.statistics import model_statistics
from headrace.dataplane.triton_config import model_config
from headrace.errors import NotFound
from headrace.observability.counters import BatchCounts
from headrace.protocol.messages import ModelMetadata, TensorMetadata
from headrace.serving.served_model import ServedModel
from headrace.settings import ModelSettings


def served(**settings: Any) -> ServedModel:
    return ServedModel(ModelSettings("m", "m:M", **settings), "key")


def test_a_model_that_was_never_asked_has_zeros_only() -> None:
    found = model_statistics(served(version="7"))

    assert (found["name"], found["version"], found["batch_stats"]) == ("m", "7", [])
    assert (found["last_inference"], found["inference_count"], found["execution_count"]) == (0,) * 3
    assert {json.dumps(each) for each in found["inference_stats"].values()} == {
        '{"count": 0, "ns": 0}'
    }


def test_a_model_without_a_version_has_a_number_as_perf_analyzer_expects() -> None:
    assert int(model_statistics(served())["version"]) == 1


def test_a_step_of_a_batch_counts_once_for_each_of_its_requests() -> None:
    model = served()
    model.metrics.batching.succeed(3, 5, queued=0.6, computed=2.0, merged=0.5, divided=0.25)
    model.metrics.batching.succeed(1, 5, queued=0.0, computed=1.0)

    found = model_statistics(model)

    assert (found["inference_count"], found["execution_count"]) == (10, 2)
    stats = found["inference_stats"]
    assert stats["queue"] == {"count": 4, "ns": 600_000_000}
    assert stats["compute_input"] == {"count": 4, "ns": 1_500_000_000}
    assert stats["compute_infer"] == {"count": 4, "ns": 7_000_000_000}
    assert stats["compute_output"] == {"count": 4, "ns": 750_000_000}
    assert found["batch_stats"] == [
        {
            "batch_size": 5,
            "compute_input": {"count": 2, "ns": 500_000_000},
            "compute_infer": {"count": 2, "ns": 3_000_000_000},
            "compute_output": {"count": 2, "ns": 250_000_000},
        }
    ]


def test_batches_of_any_size_have_a_bounded_number_of_counts() -> None:
    counts = BatchCounts()
    for rows in (1, 64, 65, 127, 128, 129, *range(10_000, 20_000), 2**31 - 1):
        counts.succeed(1, rows, 0.0, 1.0)

    assert sorted(counts.by_size) == [1, 64, 128, 256, 2**14, 2**15, 2**31]
    assert counts.by_size[128].rows == 65 + 127 + 128


def test_the_time_of_failures_is_apart_from_that_of_successes() -> None:
    model, observer = served(), MetricsObserver()
    for seconds in (10, 100):
        call = Call("p", "r", "id")
        call.model = model
        call.started -= seconds
        observer.answered(call) if seconds == 10 else observer.refused(call, NotFound("no"))

    stats = model_statistics(model)["inference_stats"]

    assert (stats["success"]["count"], stats["fail"]["count"]) == (1, 1)
    assert stats["success"]["ns"] == pytest.approx(10e9, rel=0.5)
    assert stats["fail"]["ns"] == pytest.approx(100e9, rel=0.5)


def test_the_last_inference_is_a_time_of_day() -> None:
    model = served()
    model.metrics.batching.begin(1, time.perf_counter() - 3600)

    ago = time.time() - model_statistics(model)["last_inference"] / 1000

    assert ago == pytest.approx(3600, rel=0.5)


@pytest.mark.parametrize("shape", [[-1, 4], [-1], [3, 4]], ids=str)
def test_a_model_whose_requests_are_not_merged_has_every_dimension(shape: list[int]) -> None:
    model = served(platform="p")
    model.model_metadata = ModelMetadata(inputs=[TensorMetadata("x", "BYTES", shape)], streams=True)

    assert model_config(model) == {
        "name": "m",
        "platform": "p",
        "max_batch_size": 0,
        "input": [{"name": "x", "data_type": "TYPE_STRING", "dims": shape}],
        "output": [],
        "model_transaction_policy": {"decoupled": True},
    }
