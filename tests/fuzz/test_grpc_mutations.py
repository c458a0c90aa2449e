"""Messages and frames of gRPC with wrong bytes in them, sent to a server on each of its cores."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pytest

from fuzz.figures import SEED, amount, counted
from fuzz.hostile_server import Target, attacked, exchanged
from headrace.grpc import http2_frames as frames
from headrace.protocol.open_inference import inference_pb2 as pb
from support.http2_client import begin, call, data, message
from support.serving import until

pytestmark = [pytest.mark.fuzz, pytest.mark.e2e]

BATCH = 250
SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
INFER = f"/{SERVICE.full_name}/ModelInfer"
# What a caller's own bytes may be answered with (docs/reference/grpc.md).
CODES = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
}


@pytest.fixture(params=["own", "grpcio"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    flags = [] if request.param == "own" else ["--no-native-grpc"]
    with attacked(tmp_path / "models", "--grpc-port", "0", *flags) as target:
        yield target


def core_of(target: Target) -> str:
    return "grpcio" if "--no-native-grpc" in target.server.process.args else "own core"


def good() -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="x", datatype="FP64", shape=[1])
    message.raw_input_contents.append(struct.pack("<d", 21))
    return message


def require_right(channel: grpc.Channel) -> None:
    """A good request is answered rightly, with raw tensors and with typed ones."""
    ask = channel.unary_unary(
        INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
    )
    assert ask(good(), timeout=60, wait_for_ready=True).raw_output_contents[0] == struct.pack(
        "<d", 42
    )
    typed = pb.ModelInferRequest(model_name="m")
    typed.inputs.add(name="x", datatype="FP64", shape=[1]).contents.fp64_contents.append(21)
    assert list(ask(typed, timeout=60).outputs[0].contents.fp64_contents) == [42]


def require_right_again(channel: grpc.Channel, target: Target) -> None:
    """As `require_right`; grpcio's server may be about to be started again, and loses a call."""

    def is_right() -> bool:
        try:
            require_right(channel)
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE):
                raise
            return False
        return True

    if core_of(target) == "grpcio":
        until(is_right, 60, "a good request is answered")
    else:
        require_right(channel)


def messages() -> dict[str, bytes]:
    """A message for each method; those that load and unload name a model that is not there."""
    found = {}
    for method in SERVICE.methods:
        filled = getattr(pb, method.input_type.name)()
        for field in ("name", "model_name"):
            if field in method.input_type.fields_by_name:
                setattr(filled, field, "nobody" if "Load" in method.name else "m")
        found[method.name] = filled.SerializeToString()
    found["ModelInfer"] = good().SerializeToString()
    return {name: text for name, text in found.items() if "load" not in name.lower()}


def mutated(rng: random.Random, text: bytes) -> bytes:
    """The bytes with some of them changed, taken out, or put in."""
    changed = bytearray(text)
    for _ in range(rng.randint(1, 5)):
        at = rng.randrange(len(changed) + 1)
        change = rng.randrange(5)
        if change == 0 and changed:
            changed[min(at, len(changed) - 1)] ^= 1 << rng.randrange(8)
        elif change == 1:
            changed[at:at] = rng.randbytes(rng.randint(1, 12))
        elif change == 2:
            del changed[at : at + rng.randint(1, 12)]
        elif change == 3:
            changed[at:at] = changed[: rng.randint(0, 40)]
        else:
            changed[at : at + 1] = rng.choice([b"\xff\xff\xff\xff\x0f", b"\x00", b":\x08", b"\x80"])
    return bytes(changed)


def test_a_mutated_message_is_answered_with_a_documented_code(target: Target) -> None:
    rng = random.Random(SEED)
    forms = list(messages().items())
    odd = []
    address = urlsplit(f"//{target.server.announced['grpc'].rpartition('/')[2]}").netloc
    with (
        grpc.insecure_channel(address) as channel,
        counted("mutated gRPC messages", core_of(target)) as tally,
    ):
        require_right(channel)
        while tally.count < amount(2000, 500_000):
            asked = []
            for _ in range(BATCH):
                name, text = rng.choice(forms)
                sent = mutated(rng, text)
                ask = channel.unary_unary(f"/{SERVICE.full_name}/{name}")
                asked.append((name, sent, ask.future(sent, timeout=60)))
            for name, sent, answer in asked:
                code, details = answer.code(), answer.details() or ""
                # A model may raise whatever it is given.
                if code not in CODES and not details.startswith("model 'm'"):
                    odd.append((name, sent, code, details))
            tally.count += BATCH
            require_right(channel)
        assert odd == []


CALLS = (
    call(1, INFER.encode(), good().SerializeToString()),
    begin(3, INFER.encode()) + data(3, message(b"a")) + data(3, b"", frames.END_STREAM),
    begin(5, INFER.encode()) + frames.reset(5, frames.Fault.CANCEL),
    begin(7, INFER.encode(), (b"grpc-encoding", b"gzip")) + data(7, message(b"x", None, 1), 1),
    frames.settings({frames.INITIAL_WINDOW_SIZE: 10}) + frames.window_update(0, 100),
    frames.frame(frames.PING, 0, 0, bytes(8)),
    frames.frame(frames.PRIORITY, 0, 9, bytes(5)),
    frames.frame(frames.CONTINUATION, 4, 1, b"\x82"),
    frames.frame(frames.GOAWAY, 0, 0, bytes(8)),
    frames.frame(frames.PUSH_PROMISE, 4, 1, bytes(8)),
)


def floods() -> dict[str, bytes]:
    """Much of what costs a server more than its sender."""
    path, opened = INFER.encode(), range(1, 4001, 2)
    resets = (begin(each, path) + frames.reset(each, frames.Fault.CANCEL) for each in opened)
    # A block that goes on, and a field of the table that is said again and again.
    begun = frames.frame(frames.HEADERS, 0, 1, b"\x82" * 10)
    more = frames.frame(frames.CONTINUATION, 0, 1, b"\x82" * 100)
    bomb = b"\x40\x01a\x7f\x81\x1e" + b"b" * 4000 + b"\xbe" * 12_000
    return {
        "rapid reset": b"".join(resets),
        "settings": frames.settings({4: 1}) * 20_000,
        "pings": frames.frame(frames.PING, 0, 0, bytes(8)) * 20_000,
        "empty data": begin(1, path) + data(1, b"") * 20_000,
        "window updates": begin(1, path) + frames.window_update(1, 1) * 20_000,
        "continuations": begun + more * 2000,
        "a bomb of fields": frames.headers(1, bomb, 0),
        "tiny parts": begin(1, path) + data(1, b"\x00") * 20_000,
        "tables": b"".join(frames.headers(n, b"\x3f\xe1\x1f\x20" * 500, 0) for n in opened[:50]),
        "unknown kinds": frames.frame(200, 0xFF, 1, bytes(100)) * 5000,
        "priorities": frames.frame(frames.PRIORITY, 0, 1, bytes(5)) * 20_000,
    }


def connections(rng: random.Random) -> Iterator[bytes]:
    """Endlessly: what a client sends on one connection."""
    yield from (frames.PREFACE + frames.settings({}) + flood for flood in floods().values())
    while True:
        parts = b"".join(rng.choices(CALLS, k=rng.randint(1, 8)))
        begun = frames.PREFACE + frames.settings({})
        yield begun + mutated(rng, parts) if rng.random() < 0.9 else mutated(rng, begun + parts)


def test_frames_with_wrong_bytes_harm_no_other_connection(target: Target) -> None:
    address = urlsplit(f"//{target.server.announced['grpc'].rpartition('/')[2]}")
    place = (str(address.hostname), int(address.port or 0))
    with (
        grpc.insecure_channel(address.netloc) as channel,
        counted("mutated HTTP/2", core_of(target)) as tally,
    ):
        for sent in islice(connections(random.Random(SEED)), amount(500, 100_000)):
            exchanged(place, sent)
            tally.count += 1
            if not tally.count % BATCH:
                require_right_again(channel, target)
        require_right_again(channel, target)
