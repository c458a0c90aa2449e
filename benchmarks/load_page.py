"""Sections of docs/benchmarks.md: starts, a network, growing loads, memory and overload."""

from __future__ import annotations

from statistics import median

from benchmarks.tables import Run, machine_table, table


def starts_section(result: Run) -> str:
    """How soon a server is live and ready."""
    medians = result["medians"]
    imported = medians["import"]["ready"]
    text = (
        f"Seconds from the start of the command, medians of {len(result['rounds']['import'])} "
        f"starts in turn. Beside them, an interpreter that only runs `{result['import']}`: "
        f"{imported:.2f} s. Processor time is that until all models were ready.\n"
    )
    rows = [
        [
            name,
            figures["models"],
            f"{figures['live']:.2f}",
            f"{figures['ready']:.2f}",
            f"{figures['ready'] - imported:.2f}",
            f"{figures['front_cpu']:.2f} + {figures['workers_cpu']:.2f}",
        ]
        for name, figures in medians.items()
        if name != "import"
    ]
    head = [
        "start of", "models", "live after s", "ready after s", "ready after the import, s",
        "processor time, front + worker, s",
    ]  # fmt: skip
    goals = [f"* {goal}: {'pass' if good else 'miss'}" for goal, good in result["goals"].items()]
    where = machine_table(result["machine"], {"after": result["load_average"]})
    return "\n".join(["## Starts\n", text, table(head, rows), *goals, "", where])


def network_section(result: Run) -> str:
    """A network that is served, and one that is called in a loop."""
    method, torch = result["method"], result["torch"]
    text = (
        "Networks of three hidden layers, 64 numbers in and ten out. wrk sends one row a request "
        f"over {method['connections']} connections, and its rate is compared with that of a loop "
        "that calls the same network with batches of the size that is fastest, up to "
        f"{method['connections']} rows; larger batches, up to 256, are faster still. "
        f"Loop and server take turns, {method['rounds']} rounds of {method['seconds']} s; both "
        f"compute with {torch['threads']} threads of PyTorch {torch['version']}. The server shares "
        f"its processors with wrk. The goal is {result['goal']:g}.\n"
    )
    rows = []
    for network in result["networks"]:
        middle = {
            key: median(each[key] for each in network["rounds"]) for key in network["rounds"][0]
        }
        rows.append(
            [
                network["width"],
                f"{middle['loop_rate']:,.0f}",
                f"{middle['best_size']:.0f}",
                f"{middle['any_size_rate']:,.0f}",
                f"{middle['rate']:,.0f}",
                f"{middle['p50_ms']:.1f} / {middle['p99_ms']:.1f}",
                f"{middle['front_us']:.0f} + {middle['workers_us']:.0f}",
                f"{network['ratio']:.2f}",
                "pass" if network["ratio"] >= result["goal"] else "miss",
            ]
        )
    head = [
        "width of a layer", "loop, rows a second", "in batches of", "any batches, rows a second",
        "served, rows a second",
        "p50 / p99 ms", "processor time per row, front + worker, µs", "ratio", "",
    ]  # fmt: skip
    where = machine_table(result["machine"], result["load_average"])
    return "\n".join([f"## {result['title']}\n", text, table(head, rows), where])


def curves_section(result: Run) -> str:
    """What a request costs as connections and models become more."""
    method = result["method"]
    text = (
        "Processor time for one request of one row, scikit-learn's logistic regression, while wrk "
        f"loads the server: medians of {method['rounds']} rounds of {method['seconds']} s. Models "
        f"are loaded over {method['loaded']} connections: one of them, or all in turn, so that "
        "hardly any requests can be merged. The cost grows by the most that a point costs compared "
        f"with any point before it; the goal is {method['goal']:g}.\n"
    )
    parts = [f"## {result['title']}\n", text]
    for curve, points in result["curves"].items():
        rows = [
            [f"{label}, µs", *(f"{each[key]:.0f}" for each in points.values())]
            for label, key in (("front", "front_us"), ("worker", "workers_us"))
        ]
        rows.append(["requests a second", *(f"{each['rate']:,.0f}" for each in points.values())])
        growth = result["growth"][curve]
        verdict = "pass" if growth <= method["goal"] else "miss"
        parts.append(f"### {curve.capitalize()}: grows by {growth:.2f}, {verdict}\n")
        parts.append(table([curve, *points], rows))
    parts.append(machine_table(result["machine"], result["load_average"]))
    return "\n".join(parts)


def memory_section(result: Run) -> str:
    """What many models take in one server."""
    text = (
        "Logistic regressions of scikit-learn in one server, each called once. Memory is what the "
        "processes have resident: the front and one worker of Headrace, and MLServer without "
        "workers of its own.\n"
    )
    counts = list(result["memory"]["headrace"])
    rows = []
    for name, measured in result["memory"].items():
        sizes = [each["memory_asked_mb"] for each in measured.values()]
        memory = [f"{size['front'] + size['workers']:.0f}" for size in sizes]
        ready = [f"{each['ready_after_seconds']:.1f}" for each in measured.values()]
        rows += [[f"{name}, MB", *memory], [f"{name}, ready after s", *ready]]
    head = ["models", *counts]
    where = machine_table(result["machine"], {"after": result["load_average"]})
    return "\n".join(["## Memory of many models\n", text, table(head, rows), where])


def overload_section(result: Run) -> str:
    """What is left of a model's capacity when more is asked of it."""
    method = result["method"]
    milliseconds = method["batch_seconds"] * 1000
    text = (
        f"A model answers up to {method['rows']} rows at once in {milliseconds:g} ms, so "
        f"{method['capacity']:g} requests a second. Requests arrive at a steady rate, "
        f"whether or not earlier ones were answered, with {method['timeout']:g} s for each. With "
        f"`deadline`, only that time bounds the queue; with `queue`, "
        f"`--max-queue-size {method['queue']}` does. Counted are {method['seconds']:g} s after the "
        f"queue has filled. Goals: {method['goodput_goal']:.0%} of the capacity answered in time, "
        f"rejections within {method['rejection_goal_ms']:g} ms at the 99th percentile, as the "
        "client sees them.\n"
    )
    rows = [
        [
            run["scenario"],
            run["transport"],
            f"{run['times']} ×",
            f"{run['goodput']:.0%}",
            f"{run['rejection_ms']['p50']:.1f} / {run['rejection_ms']['p99']:.1f}",
            run["late"],
            f"{run['memory_grown_mb']:.0f}",
            "pass" if run["passes"] else "miss",
        ]
        for run in result["overload"]
    ]
    head = [
        "scenario", "transport", "of the capacity", "answered in time", "rejections, p50 / p99 ms",
        "late", "memory of the front, added MB", "",
    ]  # fmt: skip
    return "\n".join(
        [
            f"## {result['title']}\n",
            text,
            table(head, rows),
            machine_table(result["machine"], result["load_average"]),
        ]
    )


def large_bodies_section(result: Run) -> str:
    """What one large request takes, and whether health is answered meanwhile."""
    method = result["method"]
    text = (
        f"{method['rows']:,} rows of {method['columns']} numbers (FP64) in one request to a model "
        f"of scikit-learn, {method['rounds']} requests one after the other. The peak is the most "
        "that all processes hold, what they share counted once, above what they held before the "
        "first request, as a multiple of the body. Health is asked for by another "
        "process, while as many requests again are answered. Goals: "
        f"{method['memory_goal']:g} times the body, and {method['health_goal_ms']:g} ms at the "
        "99th percentile.\n"
    )
    rows = [
        [
            form,
            f"{each['body_bytes'] / 1e6:.1f}",
            f"{each['seconds']:.2f}",
            f"{each['peak']:.2f}",
            f"{each['health_p99_ms']:.0f} / {each['health_most_ms']:.0f}",
            "pass"
            if each["peak"] <= method["memory_goal"]
            and each["health_p99_ms"] <= method["health_goal_ms"]
            else "miss",
        ]
        for form, each in result["served"].items()
    ]
    head = ["form", "body, MB", "answered after s", "peak", "health, p99 / slowest ms", ""]
    where = machine_table(result["machine"], result["load_average"])
    return "\n".join([f"## {result['title']}\n", text, table(head, rows), where])
