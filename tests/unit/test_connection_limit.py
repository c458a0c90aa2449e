"""Which connections make way for others."""

from __future__ import annotations

from headrace.connection_limit import ConnectionLimit


class Client:
    def __init__(self, idle_since: float | None, is_new: bool = False) -> None:
        self.idle_since = idle_since
        self.is_new = is_new
        self.is_open = True

    def make_way(self) -> None:
        self.is_open = False


def test_those_that_have_been_idle_for_longest_make_way() -> None:
    limit = ConnectionLimit(32)
    clients = [Client(float(number)) for number in reversed(range(32))]

    assert all(limit.add(each) for each in clients)
    assert limit.add(Client(100.0))
    assert [each.idle_since for each in clients if not each.is_open] == [1.0, 0.0]


def test_who_was_just_answered_stays_while_there_are_others() -> None:
    limit = ConnectionLimit(3)
    just_now = 1e9
    answered, silent, old = Client(just_now), Client(just_now + 1, is_new=True), Client(0.0)

    for newcomer in (answered, silent, old, Client(None), Client(None), Client(None)):
        assert limit.add(newcomer)
        if newcomer.idle_since is None:
            left = [each.is_open for each in (old, silent, answered)]
            assert left == sorted(left)
    assert left == [False, False, False]


def test_nobody_who_is_busy_makes_way() -> None:
    limit = ConnectionLimit(2)
    clients = [Client(None), Client(5.0)]

    assert [limit.add(each) for each in (*clients, Client(None), Client(None))] == [
        *(True, True, True, False)
    ]
    assert [each.is_open for each in clients] == [True, False]


def test_who_has_left_has_no_place() -> None:
    limit = ConnectionLimit(1)
    first = Client(None)

    assert limit.add(first)
    assert not limit.add(Client(None))
    limit.remove(first)
    assert limit.add(Client(None))
