"""How many threads frameworks compute with in workers that share the processors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headrace.executors import processors
from headrace.runtimes import create
from headrace.settings import ModelSettings
from support.asking import ask, numbers
from support.custom import write_model
from support.serving import serving

PYTORCH = """
import torch
return np.array([float(torch.get_num_threads())])
"""
# TensorFlow tells nobody how many there are, but they have a name.
TENSORFLOW = """
import tensorflow as tf
tf.linalg.matmul(x[None], x[:, None])
threads = [f"/proc/self/task/{each}/comm" for each in os.listdir("/proc/self/task")]
return np.array([float(sum("tf_Compute" in open(each).read() for each in threads))])
"""


@pytest.mark.runtimes
@pytest.mark.skipif(processors.usable() < 2, reason="one processor is all there is here")
@pytest.mark.parametrize(("framework", "counts"), [("torch", PYTORCH), ("tensorflow", TENSORFLOW)])
def test_as_many_workers_as_processors_compute_with_one_thread_each(
    framework: str, counts: str, tmp_path: Path
) -> None:
    pytest.importorskip(framework)
    workers = processors.usable()
    folder = write_model(tmp_path, counts, instances=workers)

    with serving("--parallel-workers", workers, folder) as server:
        answer = ask(server.http, "POST", "/v2/models/m/infer", numbers(1, 2))

    assert answer.json["outputs"][0]["data"] == [1]


@pytest.mark.parametrize(
    ("options", "within"), [({}, 3), ({"session_options": {"intra_op_num_threads": 5}}, 5)]
)
def test_an_onnx_session_has_the_threads_of_its_worker_unless_settings_say_otherwise(
    options: dict[str, object], within: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    graph = "g (float[N,2] x) => (float[N,2] y) { y = Neg(x) }"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {graph}')
    onnx.save(model, tmp_path / "model.onnx")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")

    runtime = create(ModelSettings("m", "onnx", uri=str(tmp_path), extra=options))
    runtime.load()

    chosen = runtime._session.get_session_options()
    assert (chosen.intra_op_num_threads, chosen.inter_op_num_threads) == (within, 3)


@pytest.mark.runtimes
@pytest.mark.parametrize(("given", "used"), [("3", 3), ("", -1)])
def test_catboost_gets_the_threads_of_its_worker_with_each_call(
    given: str, used: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catboost = pytest.importorskip("catboost")
    rows = np.arange(20.0).reshape(10, 2)
    model = catboost.CatBoostRegressor(iterations=2, verbose=False, allow_writing_files=False)
    model.fit(rows, rows[:, 0]).save_model(str(tmp_path / "model.cbm"))
    runtime = create(ModelSettings("m", "catboost", uri=str(tmp_path)))
    runtime.load()
    calls = []

    class Counted(catboost.CatBoostRegressor):
        def predict(self, data, thread_count=None):
            calls.append(thread_count)
            return super().predict(data, thread_count=thread_count)

    runtime._model.__class__ = Counted
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    runtime._call("predict", rows)

    assert calls == [used]
