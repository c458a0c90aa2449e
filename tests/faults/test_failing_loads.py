"""Models that do not load, and models that change"""

from __future__ import annotations

from itertools import cycle

from support.asking import ask, numbers
from support.custom import write_model
from support.fault_table import fault
from support.serving import Server
from support.stage import Stage

FAST = "time.sleep(0.002)\nreturn x * 2"
LOAD = "/v2/repository/models/{}/load"
UNLOAD = "/v2/repository/models/{}/unload"
CLIENTS = 32
# A negative number asks which load answers.
NUMBERED = """
if (x < 0).any(): return np.full_like(x, self.number)
return x * 2
"""
READ_NUMBER = "self.number = float(open(f'{HERE}/number').read())"
BROKEN = {
    "an import fails": "import no_such_module",
    "it raises": "raise RuntimeError('broken on purpose')",
    "it is no Python": "return (",
    "it has no memory": "raise MemoryError",
    "it exits": "sys.exit(3)",
}


@fault(
    "crash-loop",
    promise="A model that ends its worker at each load is tried again with growing pauses, shows "
    "why in the index, and costs the models of that worker no answer.",
    bar="50 times, 0 failed beside it",
    each=1.5,
)
def test_a_model_that_ends_its_worker_at_each_load_costs_others_no_answer(stage: Stage) -> None:
    write_model(stage.folder, FAST, row_independent=True)
    crashes = stage.folder / "models-later"
    write_model(crashes, load="os._exit(3)", name="crashes")

    def load_and_unload() -> None:
        answer = ask(server.http, "POST", LOAD.format("crashes"), {})
        assert answer.status == 422, answer
        entry = next(each for each in index(server) if each["name"] == "crashes")
        assert entry["reason"], entry
        assert entry["state"] == "UNAVAILABLE", entry
        assert ask(server.http, "POST", UNLOAD.format("crashes"), {}).status == 200

    with stage.serving(stage.folder, "--no-load-models-at-startup") as server:
        assert ask(server.http, "POST", LOAD.format("m"), {}).status == 200
        stage.repeat(server, load_and_unload, "m")


def index(server: Server) -> list[dict[str, str]]:
    return ask(server.http, "POST", "/v2/repository/index", {}).json


@fault(
    "load-fails",
    promise="While a new version does not load (an import, an exception, a syntax error, memory, "
    "an exit), the old one answers.",
    bar="50 times, 0 failed",
    each=0.4,
    priority=1,
)
def test_the_old_version_answers_while_a_new_one_does_not_load(stage: Stage) -> None:
    folder = write_model(stage.folder, FAST, row_independent=True)
    source = folder / "custom_m.py"
    good = source.read_text()
    kinds = cycle(BROKEN.items())

    def load_broken() -> None:
        kind, load = next(kinds)
        source.write_text(good.replace("        pass", f"        {load}"))
        answer = ask(server.http, "POST", LOAD.format("m"), {})
        assert answer.status in (422, 507), (kind, answer)

    with stage.serving(folder) as server:
        stage.repeat(server, load_broken)


@fault(
    "reload",
    promise="A model that is loaded again and again under 32 clients fails no request, and after a "
    "load has returned, no answer comes from the model before.",
    bar="1,000 reloads, 0 failed",
    per_round=20,
    each=0.08,
    priority=1,
)
def test_reloads_cost_no_caller_an_answer(stage: Stage) -> None:
    folder = write_model(stage.folder, NUMBERED, READ_NUMBER, row_independent=True)
    number = folder / "number"
    number.write_text("0")

    def reload() -> None:
        wanted = float(number.read_text()) + 1
        number.write_text(str(wanted))
        assert ask(server.http, "POST", LOAD.format("m"), {}).status == 200
        found = ask(server.http, "POST", "/v2/models/m/infer", numbers(-1)).json
        assert found["outputs"][0]["data"] == [wanted]

    with stage.serving(folder) as server:
        stage.repeat(server, reload, clients=CLIENTS)
