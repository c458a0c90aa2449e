"""How many threads libraries compute with in a worker that may use a part of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.executors import processors
from support.asking import ask, numbers
from support.custom import write_model
from support.quotas import python_on_one_processor
from support.serving import serving

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(processors.usable() < 2, reason="one processor is all there is here"),
]

# Imported here, so that all of them have loaded their libraries: BLAS and two OpenMPs.
COUNTS = """
import joblib, lightgbm, pyarrow, sklearn.linear_model, xgboost
from threadpoolctl import threadpool_info
pools = [each["num_threads"] for each in threadpool_info()]
return np.array([max(pools), joblib.cpu_count(), pyarrow.cpu_count()], dtype=float)
"""


def counted(url: str) -> list[float]:
    answer = ask(url, "POST", "/v2/models/m/infer", numbers(0))
    counts: list[float] = answer.json["outputs"][0]["data"]
    return counts


@pytest.mark.parametrize("how", ["affinity", "quota"])
def test_libraries_compute_with_the_processors_that_the_server_may_use(how: str, tmp_path: Path):
    folder = write_model(tmp_path, COUNTS)

    with (
        python_on_one_processor(tmp_path, how) as python,
        serving(folder, python=python) as server,
    ):
        assert counted(server.http) == [1, 1, 1]


def test_workers_share_the_processors(tmp_path: Path):
    workers = processors.usable()
    folder = write_model(tmp_path, COUNTS, instances=workers)

    with serving("--parallel-workers", workers, folder) as server:
        assert counted(server.http) == [1, 1, 1]


def test_workers_that_no_model_needs_take_no_processor_from_the_others(tmp_path: Path):
    folder = write_model(tmp_path, 'return np.array([float("OMP_NUM_THREADS" in os.environ)])')

    with serving("--parallel-workers", processors.usable(), folder) as server:
        assert counted(server.http) == [0]


def test_what_the_user_has_set_comes_first(tmp_path: Path):
    folder = write_model(tmp_path, COUNTS)

    with (
        python_on_one_processor(tmp_path, "affinity") as python,
        serving(folder, python=python, env={"OMP_NUM_THREADS": "3"}) as server,
    ):
        assert counted(server.http)[::2] == [3, 3]


def test_a_model_inside_the_server_may_use_all_of_them(tmp_path: Path):
    folder = write_model(tmp_path, 'return np.array([float(os.environ["OMP_NUM_THREADS"])])')

    with (
        python_on_one_processor(tmp_path, "affinity") as python,
        serving(folder, "--parallel-workers", "0", python=python) as server,
    ):
        assert counted(server.http) == [1]
