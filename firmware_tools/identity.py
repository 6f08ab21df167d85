"""Who is who on a bench: a certificate authority of its own, board certificates, the controller's command key.

Names are identities, addresses are not: a certificate stands for a name (`CN` and DNS name both), and whoever
connects checks that name. A board's private key is made on the board and never leaves it: the board sends a
request (`make_request`), the ground signs it (`Authority.sign`). Keys are P-256 (what every TLS 1.3 library and
Mosquitto take); the command key is Ed25519. Times are UTC; `now` is passed in so that tests can travel.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hil_config.durable_file import write_durably
from hil_config.errors import ConfigError, EnvironmentFault, UsageError

CA_DAYS = 3650
CERTIFICATE_DAYS = 90
WARN_DAYS = 30
"""A certificate that ends sooner is worth a warning."""

BROKER, GROUND, MONITOR = "broker", "ground", "monitor"
"""Names that no board may have: the MQTT broker, the controller, and who may only read along."""

CA_FILE, CRL_FILE, CA_KEY_FILE = "ca.pem", "crl.pem", "ca.key.pem"
CERTIFICATE_FILE, KEY_FILE = "certificate.pem", "key.pem"
COMMAND_KEY_FILE, COMMAND_PUBLIC_FILE = "command.key.pem", "command.pub.pem"
_SKEW = timedelta(hours=1)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z")
_MALFORMED = (
    ValueError,
    IndexError,
    UnsupportedAlgorithm,
    InvalidSignature,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
)
_AGAIN = "make it again: hil bench init"


@dataclass(frozen=True)
class Identity:
    """PEM texts of one party: its certificate, its private key and the authority that others are checked by."""

    certificate: bytes
    key: bytes
    ca: bytes


@dataclass(frozen=True)
class Certificate:
    """What a person asks about a certificate."""

    name: str
    serial: int
    not_before: datetime
    not_after: datetime

    def days_left(self, now: datetime | None = None) -> float:
        """Days until it ends; negative when it has."""
        return (self.not_after - (now or _utc_now())).total_seconds() / 86_400


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


def _check_name(name: str) -> str:
    if not _NAME.match(name):
        raise UsageError(f"identity {name!r}: wanted 1 to 63 letters, digits, - and _", "give it another name")
    return name


def _key_pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_key(pem: bytes, where: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{where}: not a private key in PEM", _AGAIN) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{where}: a key of another kind, wanted P-256", _AGAIN)
    return key


def make_key() -> bytes:
    """A new private key (PEM, PKCS 8)."""
    return _key_pem(ec.generate_private_key(ec.SECP256R1()))


def make_request(key: bytes, name: str) -> bytes:
    """A certificate request (PEM) of the holder of `key` for `name`."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _check_name(name))])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return request.sign(_load_key(key, f"key of {name}"), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def make_command_key() -> tuple[bytes, bytes]:
    """(private, public) PEM of a controller's Ed25519 key; boards hold the public half."""
    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return _key_pem(key), public


def read_certificate(pem: bytes, where: str = "certificate") -> Certificate:
    """What a certificate says, or ConfigError naming `where`."""
    try:
        found = x509.load_pem_x509_certificate(pem)
        names = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return Certificate(
            str(names[0].value), found.serial_number, found.not_valid_before_utc, found.not_valid_after_utc
        )
    except _MALFORMED as error:
        raise ConfigError(f"{where}: not a certificate in PEM: {error}", _AGAIN) from error


def same_key(certificate: bytes, request: bytes) -> bool:
    """Whether a certificate is for the key that signed a request (both PEM)."""
    try:
        asked = x509.load_pem_x509_csr(request)
        return (
            asked.is_signature_valid and asked.public_key() == x509.load_pem_x509_certificate(certificate).public_key()
        )
    except _MALFORMED:
        return False


def write_private(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file whole or not at all, with its mode from the first byte on. EnvironmentFault if it cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, data, mode)
    except OSError as error:
        raise EnvironmentFault(
            f"{path}: cannot be written: {error.strerror}", "check space and mode there, and whose it is"
        ) from error


def write_identity(folder: Path, identity: Identity) -> None:
    """FOLDER/{certificate,key,ca}.pem, the key readable by its owner only."""
    write_private(folder / KEY_FILE, identity.key)
    write_private(folder / CERTIFICATE_FILE, identity.certificate, 0o644)
    write_private(folder / CA_FILE, identity.ca, 0o644)


class Authority:
    """The bench's certificate authority. Make it with `create` or `read`; keep its folder off the boards."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, bench: str, days: int = CA_DAYS, now: datetime | None = None) -> Authority:
        """A new authority for one bench."""
        begin = now or _utc_now()
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{_check_name(bench)} bench authority"[:64])])
        builder = _builder(name, name, key.public_key(), begin, days)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(authority=True), critical=True)
        return cls(_with_key_ids(builder, key.public_key(), key.public_key()).sign(key, hashes.SHA256()), key)

    @classmethod
    def read(cls, folder: Path) -> Authority:
        """The authority kept in FOLDER, or ConfigError."""
        try:
            certificate = x509.load_pem_x509_certificate((folder / CA_FILE).read_bytes())
            key = (folder / CA_KEY_FILE).read_bytes()
        except OSError as error:
            raise ConfigError(f"{error.filename}: cannot be read: {error.strerror}", _AGAIN) from error
        except _MALFORMED as error:
            raise ConfigError(f"{folder / CA_FILE}: not a certificate in PEM", _AGAIN) from error
        return cls(certificate, _load_key(key, str(folder / CA_KEY_FILE)))

    def write(self, folder: Path) -> None:
        """Keep it in FOLDER: ca.pem for everybody, ca.key.pem for its owner only."""
        write_private(folder / CA_KEY_FILE, _key_pem(self._key))
        write_private(folder / CA_FILE, self.certificate, 0o644)

    @property
    def certificate(self) -> bytes:
        """The authority's own certificate (PEM): what every party checks others by."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def sign(
        self,
        request: bytes,
        name: str,
        days: float = CERTIFICATE_DAYS,
        addresses: tuple[str, ...] = (),
        now: datetime | None = None,
    ) -> bytes:
        """A certificate (PEM) for the key of `request`, if it asks for `name` and holds the key; else ConfigError.

        Args:
            addresses: further host names or IP addresses, for tools that check those (the broker's certificate).
        """
        try:
            asked = x509.load_pem_x509_csr(request)
            sound = asked.is_signature_valid
            names = [str(a.value) for a in asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
            public = asked.public_key()
        except _MALFORMED as error:
            raise ConfigError(f"certificate request for {name}: not a request in PEM: {error}", _AGAIN) from error
        if not sound or not isinstance(public, ec.EllipticCurvePublicKey):
            raise ConfigError(f"certificate request for {name}: not signed by its own P-256 key", _AGAIN)
        if names != [_check_name(name)]:
            raise ConfigError(f"certificate request asks for {names}, wanted {[name]}", "enrol that board again")
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        others: list[x509.GeneralName] = [x509.DNSName(name), *map(_general_name, addresses)]
        builder = _builder(subject, self._certificate.subject, public, now or _utc_now(), days)
        builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(authority=False), critical=True)
        both = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
        builder = _with_key_ids(builder, public, self._key.public_key())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        name: str,
        days: float = CERTIFICATE_DAYS,
        addresses: tuple[str, ...] = (),
        now: datetime | None = None,
    ) -> Identity:
        """An identity whose key is made here: the broker's, the ground's, those of local nodes and of tests."""
        key = make_key()
        return Identity(self.sign(make_request(key, name), name, days, addresses, now), key, self.certificate)

    def revocations(
        self, serials: tuple[int, ...], days: float = CERTIFICATE_DAYS, now: datetime | None = None
    ) -> bytes:
        """The revocation list (PEM) of these serial numbers; empty lists are lists too. It ends after `days`."""
        begin = now or _utc_now()
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._certificate.subject)
        builder = builder.last_update(begin - _SKEW).next_update(begin + timedelta(days=days))
        for serial in serials:
            one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(begin)
            builder = builder.add_revoked_certificate(one.build())
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(identifier, critical=False)
        builder = builder.add_extension(x509.CRLNumber(int(begin.timestamp())), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def revocation_number(pem: bytes) -> int:
    """Number of a revocation list, which is the Unix second it was made for; ConfigError if it is none."""
    try:
        return x509.load_pem_x509_crl(pem).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except _MALFORMED as error:
        raise ConfigError(
            f"{CRL_FILE}: not a revocation list in PEM", "hil bench identity revoke writes one"
        ) from error


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, begin: datetime, days: float
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(begin - _SKEW).not_valid_after(begin + timedelta(days=days))


def _usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=authority, crl_sign=authority, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _with_key_ids(
    builder: x509.CertificateBuilder, own: ec.EllipticCurvePublicKey, issuer: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    """Key identifiers: strict verification (the default from Python 3.13 on) wants both."""
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(own), critical=False)
    return builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
