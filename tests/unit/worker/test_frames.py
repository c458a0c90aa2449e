"""The frames between a front process and a worker: what is written is what is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import HeadraceError, InvalidInput
from headrace.protocol.tensor import Buffer, Tensor
from headrace.worker import frames
from headrace.worker.frames import ALIGNMENT, HEADER, FrameError, Kind


def inline(data: Buffer) -> None:
    """Shared memory that takes nothing."""


def no_memory(offset: int, size: int) -> bytes:
    raise AssertionError("no tensor lies in shared memory")


def tensor(data: bytes, name: str = "x") -> Tensor:
    return Tensor(name, "UINT8", [len(data)], data)


@given(
    st.sampled_from(Kind),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=50),
    st.lists(st.binary(max_size=50), max_size=3),
)
def test_the_header_says_what_follows_it(
    kind: Kind, call: int, meta: bytes, payload: list[bytes]
) -> None:
    frame = b"".join(frames.encode(kind, call, meta, payload))
    *known, meta_size, payload_size = frames.parse_header(frame)

    assert known == [kind, call]
    assert frame[HEADER.size :][:meta_size] == meta
    assert frame[HEADER.size + meta_size :] == b"".join(payload)
    assert payload_size == len(b"".join(payload))


def test_a_payload_is_not_copied_into_its_frame() -> None:
    payload = memoryview(bytes(1_000_000))

    assert frames.encode(Kind.INFER, 1, b"{}", [payload])[-1] is payload


@pytest.mark.parametrize(
    ("magic", "version"),
    [(b"XX", frames.VERSION), (b"RH", frames.VERSION), (frames.MAGIC, frames.VERSION + 1)],
    ids=["another protocol", "other byte order", "another version"],
)
def test_a_peer_who_speaks_anything_else_is_refused(magic: bytes, version: int) -> None:
    header = HEADER.pack(magic, version, Kind.HELLO, 2, 0, 0)

    with pytest.raises(FrameError, match=f"{version}"):
        frames.parse_header(header)


def test_a_kind_that_nobody_knows_is_for_the_receiver_to_refuse() -> None:
    header = HEADER.pack(frames.MAGIC, frames.VERSION, 200, 2, 7, 0)

    assert frames.parse_header(header) == (200, 7, 2, 0)


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_tensors_of_any_sizes_come_back_whole(contents: list[bytes]) -> None:
    sent = [tensor(data, f"x{number}") for number, data in enumerate(contents)]
    described, payload = frames.describe(sent, inline)
    received = frames.restore(described, b"".join(payload), no_memory)

    assert [(each.name, bytes(each.data)) for each in received] == [
        (each.name, each.data) for each in sent
    ]


def test_a_tensor_keeps_its_type_its_shape_and_its_parameters() -> None:
    sent = Tensor("x", "FP32", [2, 3], bytes(24), {"content_type": "np"})
    described, payload = frames.describe([sent], inline)
    (received,) = frames.restore(described, b"".join(payload), no_memory)

    assert (received.name, received.datatype, received.shape) == ("x", "FP32", [2, 3])
    assert received.parameters == {"content_type": "np"}


@given(st.lists(st.integers(0, 40), min_size=1, max_size=5))
def test_every_tensor_of_a_payload_begins_where_numpy_may_read_it(sizes: list[int]) -> None:
    _, payload = frames.describe([tensor(b"x" * size) for size in sizes], inline)
    position = 0
    for part in payload:
        if bytes(part).startswith(b"x"):
            assert position % ALIGNMENT == 0
        position += len(part)

    assert position == sum(size + -size % ALIGNMENT for size in sizes)


def test_a_tensor_in_shared_memory_takes_no_room_in_the_payload() -> None:
    memory: dict[int, bytes] = {}

    def place(data: Buffer) -> int | None:
        if len(data) < 100:
            return None
        memory[4096] = bytes(data)
        return 4096

    sent = [tensor(b"small"), tensor(b"y" * 100), tensor(b"end")]
    described, payload = frames.describe(sent, place)
    received = frames.restore(
        described, b"".join(payload), lambda offset, size: memory[offset][:size]
    )

    assert [bytes(each.data) for each in received] == [b"small", b"y" * 100, b"end"]
    assert sum(map(len, payload)) == 2 * ALIGNMENT


def test_a_tensor_at_the_very_start_of_shared_memory_is_read_there() -> None:
    described, payload = frames.describe([tensor(b"yes")], lambda data: 0)
    (received,) = frames.restore(described, b"".join(payload), lambda offset, size: b"yes"[:size])

    assert (payload, received.data) == ([], b"yes")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (InvalidInput("x: expected FP32"), ("invalid_argument", "x: expected FP32")),
        (HeadraceError(), ("internal", "internal")),
    ],
)
def test_an_error_crosses_as_its_kind_and_its_words(
    error: HeadraceError, told: tuple[str, str]
) -> None:
    meta = frames.error_meta(error)

    assert (meta["kind"], meta["message"]) == told
