"""Our client gets the same answers over every transport as plain requests do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from conformance.test_answers import EXTREMES, SHAPES
from conformance.transports import NUMPY, Refused, Tensor
from headrace.client import Client, ClientError

pytestmark = pytest.mark.e2e

NUMBERS = [tensor for tensor in EXTREMES if tensor.datatype != "BYTES"]


class OurClient:
    """A client of one transport; JSON or raw tensors where the transport has both."""

    def __init__(self, url: str, binary: bool) -> None:
        self.client = Client(url)
        self._binary = binary

    def echo(self, value: Any) -> Any:
        return self.client.infer("echo", {"x": value}, binary=self._binary).to_numpy()


@pytest.fixture(
    scope="module", params=["HTTP JSON", "HTTP binary", "gRPC raw", "gRPC typed", "native gRPC"]
)
def ours(
    request: pytest.FixtureRequest, announced: dict[str, str], announced_natively: dict[str, str]
) -> Iterator[OurClient]:
    urls = {
        "HTTP": announced["http"],
        "gRPC": "grpc://" + announced["grpc"],
        "native": "grpc://" + announced_natively["grpc"],
    }
    kind = request.param
    ours = OurClient(urls[kind.split()[0]], binary="JSON" not in kind and "typed" not in kind)
    yield ours
    ours.client.close()


@pytest.mark.parametrize("tensor", NUMBERS, ids=[t.datatype for t in NUMBERS])
def test_the_extremes_of_a_datatype_come_back_the_same(tensor: Tensor, ours: OurClient) -> None:
    sent = np.array(tensor.values, NUMPY[tensor.datatype])
    got = ours.echo(sent)

    assert got.dtype == sent.dtype
    assert got.tobytes() == sent.tobytes()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_shape_comes_back_the_same(shape: list[int], ours: OurClient) -> None:
    sent = np.arange(6, dtype=np.int32).reshape(shape)

    assert ours.echo(sent).tolist() == sent.tolist()


def test_text_comes_back_the_same(ours: OurClient) -> None:
    assert ours.echo(["mill", "", "M\u00fchle \u2713"]).tolist() == [
        "mill",
        "",
        "M\u00fchle \u2713",
    ]


@pytest.mark.parametrize("model", ["echo", "double", "plugin"])
def test_metadata_is_the_same_as_that_of_the_reference(
    model: str, ours: OurClient, reference: Any
) -> None:
    assert ours.client.model_metadata(model) == reference.metadata(model)
    assert ours.client.metadata() == reference.server_metadata()


@pytest.mark.parametrize("model", ["nobody", "fails"])
def test_a_refusal_has_the_same_message(model: str, ours: OurClient, reference: Any) -> None:
    with pytest.raises(Refused) as plain:
        reference.infer(model, [Tensor("x", "FP64", [1], [1.0])])
    with pytest.raises(ClientError) as refused:
        ours.client.infer(model, {"x": np.ones(1)})

    assert refused.value.code == plain.value.kind
    # The client adds the names of the models that there are.
    assert refused.value.message.startswith(plain.value.message)
