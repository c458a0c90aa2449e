"""The budget for what is being received: who waits, who is refused, and that somebody goes on."""

from __future__ import annotations

import random

import pytest

from headrace.errors import Overloaded
from headrace.receive_budget import SEGMENT, SMALL, ReceiveBudget, Upload

TOTAL = 64 * SEGMENT


class Client:
    """Sends a body in segments, for as long as it is not paused."""

    def __init__(self, budget: ReceiveBudget, size: int) -> None:
        self.budget = budget
        self.left = size
        self.paused = False
        self.refused = False
        self.upload = Upload(budget, self._pause, self._resume, self._refuse)

    def _pause(self) -> None:
        assert not self.paused
        self.paused = True

    def _resume(self) -> None:
        assert self.paused
        self.paused = False

    def _refuse(self, error: Overloaded) -> None:
        self.refused = True
        self.upload.release()

    def send(self) -> None:
        part = min(SEGMENT, self.left)
        try:
            self.upload.hold(part)
        except Overloaded as error:
            self._refuse(error)
        self.left -= part
        if not self.left and not self.refused:
            self.upload.arrived()


def test_all_complete_one_after_the_other_if_each_is_answered() -> None:
    budget = ReceiveBudget(TOTAL)
    clients = [Client(budget, 10 * SEGMENT) for _ in range(30)]
    served: list[Client] = []
    while waiting := [each for each in clients if each.left]:
        for each in waiting:
            if not each.paused:
                each.send()
            assert not each.refused
            assert budget.held <= TOTAL
            if not each.left:
                served.append(each)
        # An answer now and then.
        if served:
            served.pop(0).upload.release()
    for each in served:
        each.upload.release()

    assert budget.held == 0


def test_the_oldest_is_not_paused_while_the_others_are() -> None:
    budget = ReceiveBudget(TOTAL)
    clients = [Client(budget, 10 * SEGMENT) for _ in range(8)]
    for _ in range(9):
        for each in clients:
            if not each.paused:
                each.send()

    assert [each.paused for each in clients] == [False] + [True] * 7
    clients[0].send()
    assert [each.paused for each in clients[1:3]] == [False, True]


def test_small_uploads_pass_while_large_ones_wait() -> None:
    budget = ReceiveBudget(TOTAL)
    clients = [Client(budget, 10 * SEGMENT) for _ in range(30)]
    for _ in range(10):
        for each in clients:
            if not each.paused:
                each.send()
    small = [Client(budget, SMALL) for _ in range(TOTAL // SMALL // 16)]
    for each in small:
        each.send()

    assert not any(each.paused or each.refused for each in small)


def test_a_newcomer_is_refused_where_there_is_no_room_to_wait() -> None:
    budget = ReceiveBudget(TOTAL)
    clients = [Client(budget, 2 * SEGMENT) for _ in range(100)]
    for each in clients:
        each.send()

    assert [each.refused for each in clients].count(True) == 100 - 56
    assert not clients[0].refused


def test_the_newest_makes_room_if_nothing_else_does() -> None:
    budget = ReceiveBudget(TOTAL)
    first, *others = [Client(budget, 40 * SEGMENT) for _ in range(5)]
    for _ in range(10):
        for each in (first, *others):
            if not each.paused:
                each.send()
    while first.left:
        assert not first.paused
        first.send()

    assert not first.refused
    # What the others have does not count twice: only as many go as have to.
    assert [each.refused for each in others] == [False, False, True, True] or others[-1].refused


def test_one_upload_may_have_all_of_it() -> None:
    budget = ReceiveBudget(TOTAL)
    only = Client(budget, TOTAL)
    while only.left:
        only.send()

    assert (only.paused, only.refused, budget.held) == (False, False, TOTAL)


def test_what_is_unpacked_is_counted_and_refused() -> None:
    budget = ReceiveBudget(TOTAL)
    client = Client(budget, 1000)
    client.send()
    client.upload.unpack(TOTAL // 2)
    with pytest.raises(Overloaded, match="--max-receive-bytes"):
        client.upload.unpack(TOTAL // 2)
    client.upload.release()

    assert budget.held == 0


def test_memory_is_given_back_once_after_much_was_held() -> None:
    budget = ReceiveBudget(1024 * SEGMENT)
    client = Client(budget, 100 * SEGMENT)
    while client.left:
        client.send()
    assert not budget.leaves_memory()
    client.upload.release()

    assert [budget.leaves_memory() for _ in range(3)] == [True, False, False]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_clients_do_the_bound_holds_and_nothing_is_left(seed: int) -> None:
    chance = random.Random(seed)
    budget = ReceiveBudget(TOTAL)
    clients: list[Client] = []
    for _ in range(5000):
        if len(clients) < 60:
            clients.append(Client(budget, chance.randrange(1, 25 * SEGMENT)))
        each = chance.choice(clients)
        if each.refused:
            clients.remove(each)
        elif each.left and not each.paused:
            each.send()
        elif not each.left or chance.random() < 0.05:
            # Answered, or overdue.
            each.upload.release()
            clients.remove(each)
        assert 0 <= budget.held <= TOTAL
        assert budget.held == sum(each.upload.held for each in clients)
        arriving = [each for each in clients if each.left and each.upload.held > SMALL]
        if arriving and not budget._served:
            assert any(not each.paused for each in arriving)
    for each in clients:
        each.upload.release()

    assert (budget.held, budget._served) == (0, 0)
    assert not budget._arriving
    assert not budget._running
    assert not budget._paused
