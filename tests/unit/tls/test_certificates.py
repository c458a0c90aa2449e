"""The files of certificates: what is refused and warned of, and when they are read again."""

from __future__ import annotations

import datetime
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from headrace.errors import ConfigurationError
from headrace.settings import ServerSettings
from headrace.tls.certificates import HTTP, Certificates, certificates
from support.certificates import Authority, Pair

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def settings(pair: Pair, **more: Any) -> ServerSettings:
    return ServerSettings(ssl_certfile=str(pair.certificate), ssl_keyfile=str(pair.key), **more)


def encrypt(pair: Pair, password: bytes) -> None:
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    sealed = serialization.BestAvailableEncryption(password)
    form = serialization.PrivateFormat.PKCS8
    pair.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, sealed))


def refusal(given: ServerSettings) -> str:
    with pytest.raises(ConfigurationError) as refused:
        certificates(given)
    return refused.value.message


def test_without_a_certificate_there_is_no_tls() -> None:
    assert certificates(ServerSettings()) is None


@pytest.mark.parametrize("flag", ["ssl_keyfile", "ssl_keyfile_password_file", "ssl_ca_certs"])
def test_each_other_flag_needs_the_certificate(flag: str) -> None:
    message = refusal(ServerSettings(**{flag: "x"}))

    assert message.startswith(f"--{flag.replace('_', '-')} needs --ssl-certfile")


def test_the_end_of_the_servers_own_certificate_is_read(authority: Authority) -> None:
    ends = datetime.datetime(2061, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
    for name, when in (("far", ends), ("near", ends.replace(year=2041))):
        found = Certificates(settings(authority.issue(name, not_after=when)))
        assert found.current.validity.ends == when.timestamp()


def test_a_file_with_certificate_and_key_is_enough(authority: Authority) -> None:
    pair = authority.issue()
    pair.certificate.write_bytes(pair.certificate.read_bytes() + pair.key.read_bytes())

    assert certificates(ServerSettings(ssl_certfile=str(pair.certificate))) is not None


def test_a_password_is_read_from_its_file(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue()
    encrypt(pair, b"hunter2")
    file = tmp_path / "password"
    file.write_text("hunter2\n")

    assert certificates(settings(pair, ssl_keyfile_password_file=str(file))) is not None


def test_a_missing_password_is_not_asked_for_at_the_terminal(authority: Authority) -> None:
    pair = authority.issue()
    encrypt(pair, b"hunter2")

    message = refusal(settings(pair))

    assert message == (
        f"--ssl-keyfile: '{pair.key}': the key is encrypted; --ssl-keyfile-password-file names the "
        "file with its password"
    )


def test_a_wrong_password_names_its_file_and_is_not_shown(
    authority: Authority, tmp_path: Path
) -> None:
    pair = authority.issue()
    encrypt(pair, b"hunter2")
    file = tmp_path / "password"
    file.write_text("hunter3")

    message = refusal(settings(pair, ssl_keyfile_password_file=str(file)))

    assert message.startswith(f"--ssl-keyfile-password-file: '{file}': expected the password")
    assert "hunter" not in message


def test_a_file_that_is_no_password_is_refused_by_name(
    authority: Authority, tmp_path: Path
) -> None:
    pair = authority.issue()
    encrypt(pair, b"hunter2")
    file = tmp_path / "password"
    file.write_bytes(b"a" * 3000)

    message = refusal(settings(pair, ssl_keyfile_password_file=str(file)))

    assert message == (
        f"--ssl-keyfile-password-file: '{file}': expected a password of at most 1024 bytes, "
        "got 3000"
    )


def test_grpcio_takes_no_encrypted_key(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue()
    encrypt(pair, b"hunter2")
    file = tmp_path / "password"
    file.write_text("hunter2")

    given = settings(pair, ssl_keyfile_password_file=str(file), native_grpc=False)

    assert "the key is encrypted, which --no-native-grpc cannot use" in refusal(given)


def test_a_key_of_another_certificate_is_refused(authority: Authority) -> None:
    pair, other = authority.issue(), authority.issue("other")

    message = refusal(settings(Pair(pair.certificate, other.key)))

    assert message == (
        f"--ssl-keyfile: '{other.key}': the key is not that of the certificate of --ssl-certfile"
    )


def test_files_that_are_not_what_they_should_be_are_named(
    authority: Authority, tmp_path: Path
) -> None:
    pair = authority.issue()
    empty, garbage = tmp_path / "empty", tmp_path / "garbage"
    empty.write_bytes(b"")
    garbage.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    missing = tmp_path / "missing"
    given = {
        "--ssl-certfile: .*no certificate in it": settings(Pair(empty, pair.key)),
        "--ssl-certfile: .*cannot be read": settings(Pair(garbage, pair.key)),
        "--ssl-certfile: .*missing': No such file": settings(Pair(missing, pair.key)),
        "--ssl-keyfile: .*no private key in it": settings(Pair(pair.certificate, empty)),
        "--ssl-keyfile: .*No such file": settings(Pair(pair.certificate, missing)),
        "--ssl-keyfile: .*Is a directory": settings(Pair(pair.certificate, tmp_path)),
        "--ssl-ca-certs: .*certificates of authorities": settings(pair, ssl_ca_certs=str(garbage)),
        "--ssl-ca-certs: .*empty': expected": settings(pair, ssl_ca_certs=str(empty)),
        "--ssl-keyfile-password-file: .*No such": settings(
            pair, ssl_keyfile_password_file=str(missing)
        ),
        "--ssl-certfile: .*no private key in it; .*--ssl-keyfile names": ServerSettings(
            ssl_certfile=str(pair.certificate)
        ),
    }

    for pattern, each in given.items():
        with pytest.raises(ConfigurationError, match=pattern):
            certificates(each)


def test_an_old_certificate_and_an_open_key_are_warned_of(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    day = datetime.timedelta(days=1)
    lives = {
        "expired": (NOW - 9 * day, NOW - day),
        "ending": (NOW - 80 * day, NOW + 5 * day),
        "short": (NOW, NOW + day),
        "early": (NOW + day, NOW + 90 * day),
    }
    warned = {}
    for name, (begins, ends) in lives.items():
        caplog.clear()
        Certificates(settings(authority.issue(name, not_before=begins, not_after=ends)))
        warned[name] = caplog.text
    pair = authority.issue("open")
    pair.key.chmod(0o644)
    caplog.clear()
    Certificates(settings(pair))

    assert "is not valid; it ended at" in warned["expired"]
    assert "ends soon" in warned["ending"]
    assert warned["short"] == ""
    assert "is not valid yet" in warned["early"]
    assert f"--ssl-keyfile: every user of this machine can read '{pair.key}'" in caplog.text


def test_a_changed_pair_is_used(authority: Authority) -> None:
    found = Certificates(settings(authority.issue()))
    before = found.current
    found.look()
    unchanged = found.current is before
    authority.issue()
    found.look()

    assert unchanged
    assert found.current is not before
    assert found.current.contexts[HTTP] is not before.contexts[HTTP]


def test_a_secret_of_kubernetes_is_renewed_by_one_symlink(
    authority: Authority, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()

    def write(version: str) -> None:
        (secret / version).mkdir()
        pair = authority.issue()
        os.replace(pair.certificate, secret / version / "tls.crt")
        os.replace(pair.key, secret / version / "tls.key")
        (secret / "..new").symlink_to(version)
        os.replace(secret / "..new", secret / "..data")

    write("..1")
    for name in ("tls.crt", "tls.key"):
        (secret / name).symlink_to(f"..data/{name}")
    found = Certificates(settings(Pair(secret / "tls.crt", secret / "tls.key")))
    before = found.current.chain
    write("..2")
    found.look()

    assert found.current.chain != before
    assert found.current.chain == (secret / "..2/tls.crt").read_bytes()


def test_a_broken_pair_keeps_the_old_one_and_is_logged_once(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority.issue()
    found = Certificates(settings(pair))
    before = found.current
    caplog.set_level(logging.ERROR)
    pair.key.write_text("nothing")
    logged = []
    for _ in range(4):
        found.look()
        logged.append(len(caplog.records))
    authority.issue()
    found.look()

    assert logged == [0, 1, 1, 1]
    assert f"--ssl-keyfile: '{pair.key}': there is no private key" in caplog.text
    assert found.current is not before


def test_a_pair_whose_files_are_written_one_after_the_other_is_no_error(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority.issue()
    found = Certificates(settings(pair))
    before = found.current
    caplog.set_level(logging.ERROR)
    new = authority.issue("new")
    os.replace(new.certificate, pair.certificate)
    found.look()
    between = found.current
    os.replace(new.key, pair.key)
    found.look()

    assert between is before
    assert found.current is not before
    assert caplog.text == ""


def test_files_that_are_gone_keep_what_they_held(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority.issue()
    found = Certificates(settings(pair))
    before = found.current
    pair.certificate.unlink()
    found.look()
    found.look()

    assert found.current is before
    assert "No such file" in caplog.text
