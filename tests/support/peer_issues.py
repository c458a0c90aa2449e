"""What users of other model servers have reported, and the test of ours that is about it."""

from __future__ import annotations

from typing import NamedTuple

ISSUES = {
    "BentoML": "bentoml/BentoML",
    "KServe": "kserve/kserve",
    "LitServe": "Lightning-AI/LitServe",
    "MLServer": "SeldonIO/MLServer",
    "Ray": "ray-project/ray",
    "TorchServe": "pytorch/serve",
    "Triton": "triton-inference-server/server",
    "xinference": "xorbitsai/inference",
}


class PeerIssue(NamedTuple):
    """`numbers` are those of issues and pull requests, or the names of advisories."""

    system: str
    numbers: tuple[str, ...]
    what: str
    file: str
    test: str

    @property
    def links(self) -> str:
        """The public pages in Markdown."""
        found = []
        for number in self.numbers:
            if number.startswith("CVE-"):
                found.append(f"[{number}](https://nvd.nist.gov/vuln/detail/{number})")
            else:
                address = f"https://github.com/{ISSUES[self.system]}/issues/{number}"
                found.append(f"[{self.system} #{number}]({address})")
        return ", ".join(found)


DEAD = "tests/faults/test_dead_workers.py"
CALLERS = "tests/faults/test_callers.py"
STOPS = "tests/faults/test_stops.py"
LOADS = "tests/faults/test_failing_loads.py"
BATCHER = "tests/unit/batching/test_batcher.py"
ANSWERS = "tests/conformance/test_error_table.py"
BODIES = "tests/unit/http/test_body.py"

PEER_ISSUES = [
    PeerIssue(
        "MLServer", ("1431", "707", "642"), "a worker dies, requests hang, health stays green",
        DEAD, "test_a_killed_worker_costs_no_caller_an_answer",
    ),
    PeerIssue(
        "LitServe", ("532", "660"), "a dead worker is not replaced",
        "tests/faults/test_growth.py", "test_two_hundred_dead_workers_leave_nothing",
    ),
    PeerIssue(
        "TorchServe", ("2357", "1815"), "a worker that dies takes its requests with it",
        DEAD, "test_all_workers_killed_at_once_cost_no_caller_an_answer",
    ),
    PeerIssue(
        "MLServer", ("1306", "1911"), "one caller of a batch gets the answers of the others",
        ANSWERS, "test_an_answer_with_too_few_rows_for_its_callers",
    ),
    PeerIssue(
        "MLServer", ("1826",), "requests that differ are merged into one batch",
        BATCHER, "test_requests_that_differ_in_anything_but_rows_never_share_a_batch",
    ),
    PeerIssue(
        "BentoML", ("3859",), "batches are counted in requests, not rows",
        BATCHER, "test_max_batch_size_counts_rows_and_is_inclusive",
    ),
    PeerIssue(
        "MLServer", ("2292",), "a server that stops answers 500 to what is in flight",
        STOPS, "test_a_server_that_stops_answers_what_is_in_flight",
    ),
    PeerIssue(
        "MLServer", ("640",), "a new version cannot be loaded without failed requests",
        LOADS, "test_reloads_cost_no_caller_an_answer",
    ),
    PeerIssue(
        "Triton", ("7077", "8030", "7086"), "a caller who hangs up is executed all the same",
        CALLERS, "test_callers_who_leave_are_not_executed_and_their_mates_are_answered",
    ),
    PeerIssue(
        "MLServer", ("999",), "a caller who leaves is not noticed",
        ANSWERS, "test_a_caller_who_leaves",
    ),
    PeerIssue(
        "Triton", ("6920", "7532"), "a request runs on after its deadline",
        CALLERS, "test_requests_whose_deadline_passes_in_the_queue_are_never_executed",
    ),
    PeerIssue(
        "Triton", ("4764", "3320", "4528", "2023", "4966", "7020", "6836"),
        "memory is not given back when models are loaded and unloaded",
        "tests/faults/test_growth.py", "test_a_thousand_loads_and_unloads_leave_nothing",
    ),
    PeerIssue(
        "Triton", ("7481",), "a model stays in the state UNLOADING for ever",
        "tests/e2e/test_repository.py", "test_the_index_follows_a_model_through_its_states",
    ),
    PeerIssue(
        "Triton", ("CVE-2025-23323", "CVE-2025-23331"),
        "a shape that overflows, or allocates what was never sent",
        ANSWERS, "test_a_raw_size_that_is_not_that_of_the_shape",
    ),
    PeerIssue(
        "Triton", ("CVE-2025-23310",), "a body in many small parts exhausts the server",
        BODIES, "test_an_undeclared_length_is_counted_while_reading",
    ),
    PeerIssue(
        "BentoML", ("CVE-2025-32375", "CVE-2025-27520"),
        "a request is unpickled in the server",
        "tests/test_shape.py", "test_what_a_worker_imports_needs_numpy_only",
    ),
    PeerIssue(
        "BentoML", ("CVE-2026-27905",), "an archive writes outside its folder",
        "tests/unit/archives/test_archive.py", "test_a_hostile_archive_is_refused_whole",
    ),
    PeerIssue(
        "Triton", ("CVE-2026-24207",), "an alternate path passes the access rules",
        "tests/unit/admin/test_observed.py", "test_one_observer_guards_every_route",
    ),
    PeerIssue(
        "Ray", ("CVE-2026-27482",), "a web page may send what the guard of methods forgot",
        "tests/unit/dataplane/test_foreign_pages.py",
        "test_so_are_other_methods_that_change_something",
    ),
    PeerIssue(
        "Triton", ("CVE-2023-31036",), "the name of a model is a path",
        "tests/fuzz/test_names.py", "test_a_path_with_a_hostile_name_is_unknown",
    ),
    PeerIssue(
        "xinference", ("5213",), "a caller who sends byte by byte is never cut off",
        CALLERS, "test_slow_callers_are_cut_off_and_hold_nobody_up",
    ),
    PeerIssue(
        "KServe", ("3555", "4251"), "a new version of a registered model is not noticed",
        "tests/e2e/test_follow_faults.py",
        "test_no_request_fails_whatever_the_registry_and_its_versions_do",
    ),
]  # fmt: skip
