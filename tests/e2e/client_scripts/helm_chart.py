"""Renders a chart with Helm's own library, and validates what comes out by Kubernetes' schemas.

`helm_chart.py CHART VALUES`, the values as JSON, prints one JSON object: the `objects`, what Helm's
linter finds, and the `faults` of each object in the oldest and the newest Kubernetes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import helm_python as helm
import kubernetes_validate
import yaml

VERSIONS = ("1.29", "1.37")


def faults(manifest: dict) -> Iterator[str]:
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{manifest['kind']} in {version}: {error}"


def main(chart: str, values: str) -> None:
    with helm.Chart.load(chart) as loaded:
        rendered = loaded.render(json.loads(values), name="demo", namespace="prod")
    texts = {name: text for name, text in rendered.items() if name.endswith(".yaml")}
    objects = [each for text in texts.values() for each in yaml.safe_load_all(text) if each]
    # Of the Prometheus operator, whose kinds are not Kubernetes' own.
    builtin = [each for each in objects if not each["apiVersion"].startswith("monitoring.")]
    linted = helm.lint(chart)
    found = {
        "objects": objects,
        "notes": [text for name, text in rendered.items() if name.endswith("NOTES.txt")],
        # Below a warning is advice, such as to have an icon.
        "lint": [each for each in linted["messages"] if each["severity"] > 1] + linted["errors"],
        "faults": [fault for each in builtin for fault in faults(each)],
    }
    print(json.dumps(found))


main(*sys.argv[1:])
