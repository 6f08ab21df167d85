"""The bench's authority: who gets a certificate, who does not, and what a certificate says."""

from __future__ import annotations

import base64
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key

from firmware_tools.identity import (
    CA_FILE,
    CA_KEY_FILE,
    KEY_FILE,
    Authority,
    make_command_key,
    make_key,
    make_request,
    read_certificate,
    write_identity,
)
from hil_config.errors import ConfigError, UsageError

NOW = datetime(2026, 11, 25, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("lab", now=NOW)


def test_a_request_becomes_a_certificate_of_that_name_under_the_authority(authority: Authority) -> None:
    pem = authority.sign(
        make_request(make_key(), "sat-1"), "sat-1", days=90, addresses=("10.0.0.7", "sat1.lan"), now=NOW
    )
    said = read_certificate(pem)
    assert said.name == "sat-1" and said.days_left(NOW) == 90
    found = x509.load_pem_x509_certificate(pem)
    found.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate))
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["sat-1", "sat1.lan"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7"]


def test_a_request_for_another_name_or_with_a_foreign_signature_is_refused(authority: Authority) -> None:
    request = make_request(make_key(), "sat-1")
    with pytest.raises(ConfigError, match=r"asks for \['sat-1'\], wanted \['sat-2'\]"):
        authority.sign(request, "sat-2")
    with pytest.raises(ConfigError, match="not a request in PEM"):
        authority.sign(b"-----BEGIN CERTIFICATE REQUEST-----\nno\n-----END CERTIFICATE REQUEST-----\n", "sat-1")
    with pytest.raises(UsageError, match="wanted 1 to 63 letters"):
        make_request(make_key(), "sat/1")


def test_every_flipped_bit_of_a_request_is_refused(authority: Authority) -> None:
    request = x509.load_pem_x509_csr(make_request(make_key(), "sat-1"))
    der = bytearray(request.public_bytes(Encoding.DER))
    unused_bits = len(der) - len(request.signature) - 1  # one signature in 16 ends in four bits that may go unused
    assert der[unused_bits] == 0
    for index in set(range(len(der))) - {unused_bits}:
        changed = bytearray(der)
        changed[index] ^= 0x04
        text = base64.encodebytes(bytes(changed)).decode()
        pem = f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n".encode()
        with pytest.raises(ConfigError):
            authority.sign(pem, "sat-1")


def test_kept_keys_are_for_their_owner_only_and_read_back(authority: Authority, tmp_path: Path) -> None:
    authority.write(tmp_path / "ca")
    write_identity(tmp_path / "sat-1", authority.issue("sat-1"))
    for path in (tmp_path / "ca" / CA_KEY_FILE, tmp_path / "sat-1" / KEY_FILE):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Authority.read(tmp_path / "ca").certificate == authority.certificate
    assert not list(tmp_path.rglob(".*")), "no temporary file stays behind"
    (tmp_path / "ca" / CA_FILE).write_text("nonsense")
    with pytest.raises(ConfigError, match="not a certificate in PEM"):
        Authority.read(tmp_path / "ca")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        Authority.read(tmp_path / "absent")


def test_revocation_lists_name_serials_and_end(authority: Authority) -> None:
    serial = read_certificate(authority.issue("sat-1").certificate).serial
    found = x509.load_pem_x509_crl(authority.revocations((serial,), days=7, now=NOW))
    assert found.get_revoked_certificate_by_serial_number(serial) is not None
    assert found.get_revoked_certificate_by_serial_number(serial + 1) is None
    assert found.next_update_utc == NOW + timedelta(days=7)


def test_the_command_keys_belong_together() -> None:
    private, public = make_command_key()
    assert b"PRIVATE" in private and b"PRIVATE" not in public
    load_pem_public_key(public)
