"""The software bill of materials of a bundle, in CycloneDX's form: its packages and its models."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence

from headrace.errors import MissingDependency

INSTALL = "pip install 'headrace[bundles]'"
_NAMESPACE = uuid.UUID("6d1f0d5e-4f2b-5c0e-9a53-2d0e5a8f7c11")


def cyclonedx(
    name: str,
    packages: Sequence[tuple[str, str, Sequence[str]]],
    models: Sequence[Mapping[str, str]],
) -> str:
    """The JSON of a bill: equal for equal content, so it has no time and no random number.

    `packages` are names, versions and SHA-256 digests; `models` have `tag` and `digest`.

    Raises:
        MissingDependency: cyclonedx-python-lib is not installed.
    """
    try:
        from cyclonedx.model import HashAlgorithm, HashType
        from cyclonedx.model.bom import Bom
        from cyclonedx.model.component import Component, ComponentType
        from cyclonedx.output.json import JsonV1Dot6
        from packageurl import PackageURL
    except ModuleNotFoundError as error:
        raise MissingDependency(f"bundles need the module '{error.name}': {INSTALL}") from None
    bill = Bom()
    bill.metadata.component = Component(
        name=name, type=ComponentType.APPLICATION, bom_ref=f"bundle:{name}"
    )
    for package, version, digests in packages:
        url = PackageURL("pypi", name=package, version=version)
        bill.components.add(
            Component(
                name=package,
                version=version,
                type=ComponentType.LIBRARY,
                purl=url,
                bom_ref=str(url),
                # Of several files that may be installed none is the component; one can be.
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=each) for each in digests[:1]]
                if len(digests) == 1
                else [],
            )
        )
    for model in models:
        label, _, version = model["tag"].partition(":")
        bill.components.add(
            Component(
                name=label,
                version=version,
                type=ComponentType.MACHINE_LEARNING_MODEL,
                bom_ref=f"model:{model['tag']}",
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=model["digest"])],
            )
        )
    bill.register_dependency(bill.metadata.component, bill.components)
    content = json.loads(JsonV1Dot6(bill).output_as_string())
    content["metadata"].pop("timestamp", None)
    content.pop("serialNumber", None)
    body = json.dumps(content, sort_keys=True)
    content["serialNumber"] = f"urn:uuid:{uuid.uuid5(_NAMESPACE, body)}"
    return json.dumps(content, indent=1, sort_keys=True) + "\n"
