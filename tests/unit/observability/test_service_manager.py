"""What a service manager reads from its socket."""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections.abc import Iterator

import pytest

from headrace.observability.service_manager import ServiceManager


@pytest.fixture
def manager() -> Iterator[socket.socket]:
    """The socket of a manager, in the abstract namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.settimeout(60)
        bound.bind(f"\0headrace-test-{uuid.uuid4().hex}")
        yield bound


def environ(manager: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": "@" + manager.getsockname()[1:].decode(), **more}


def test_an_abstract_socket_gets_each_message_as_one_datagram(manager):
    told = ServiceManager(environ(manager))

    told.ready("headrace serves at http://127.0.0.1:1")
    told.alive()
    told.stopping()

    assert manager.recv(4096) == b"READY=1\nSTATUS=headrace serves at http://127.0.0.1:1"
    assert manager.recv(4096) == b"WATCHDOG=1"
    assert manager.recv(4096) == b"STOPPING=1\nSTATUS=draining"


def test_without_a_socket_nothing_is_sent_and_nothing_fails(caplog):
    told = ServiceManager({"WATCHDOG_USEC": "2000000"})

    told.ready("ready")

    assert told.watchdog_interval is None
    assert caplog.records == []


def test_a_manager_that_is_gone_is_a_warning_that_names_its_socket(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "headrace"):
        ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).stopping()

    assert f"NOTIFY_SOCKET {tmp_path}/gone: No such file" in caplog.text


@pytest.mark.parametrize(
    ("variables", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_in_its_time_if_it_waits_for_this_process(
    manager, variables, interval
):
    assert ServiceManager(environ(manager, **variables)).watchdog_interval == interval


@pytest.mark.parametrize("wanted", ["1", "9" * 30, "9" * 400, "9" * 5000])
def test_a_watchdog_of_any_number_is_fed_at_a_bounded_rate(wanted):
    told = ServiceManager({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": wanted})

    assert told.watchdog_interval is not None
    assert 0.1 <= told.watchdog_interval <= 3600


def test_a_manager_that_is_not_there_is_a_warning_once(tmp_path, caplog):
    told = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "none")})

    for _ in range(3):
        told.alive()

    assert len(caplog.records) == 1
