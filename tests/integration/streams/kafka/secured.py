"""The tests' Kafka with a password: SCRAM beside the plain listener, in the open and under an own CA."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.integration.streams.kafka.node import KafkaNode, free

__all__ = ["PASSWORD", "USER", "SecuredKafkaNode"]

USER, PASSWORD = "themisto", "right-horse-battery"
_MECHANISM = "SCRAM-SHA-512"


class SecuredKafkaNode(KafkaNode):
    """Beside what `with` gives: `servers` by protocol, and the CA's certificate, `ca`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.servers = {protocol: f"127.0.0.1:{free()}" for protocol in ("SASL_PLAINTEXT", "SASL_SSL")}
        self.ca = folder / "ca.pem"
        self._keystore = folder / "server.pem"

    @property
    def format_options(self) -> list[str]:
        return ["--add-scram", f"{_MECHANISM}=[name={USER},password={PASSWORD}]"]

    def settings(self) -> dict[str, Any]:
        _certify(self.ca, self._keystore)
        own = super().settings()
        for name in ("listeners", "advertised.listeners"):
            own[name] = ",".join([own[name], *(f"{protocol}://{at}" for protocol, at in self.servers.items())])
        named = ("PLAINTEXT", *self.servers)
        own["listener.security.protocol.map"] = ",".join(["CONTROLLER:PLAINTEXT", *(f"{one}:{one}" for one in named)])
        for listener in ("sasl_plaintext", "sasl_ssl"):
            prefix = f"listener.name.{listener}"
            own[f"{prefix}.sasl.enabled.mechanisms"] = _MECHANISM
            module = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            own[f"{prefix}.{_MECHANISM.lower()}.sasl.jaas.config"] = module
        own["listener.name.sasl_ssl.ssl.keystore.type"] = "PEM"
        own["listener.name.sasl_ssl.ssl.keystore.location"] = self._keystore
        return own


def _certify(ca_file: Path, server_file: Path) -> None:
    """A CA, and what it has signed for 127.0.0.1: key and certificate in one file, as Kafka reads PEM."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the tests' own CA")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kafka")])
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    ca = _signed(issuer, issuer, ca_key, ca_key, x509.BasicConstraints(ca=True, path_length=0))
    certificate = _signed(subject, issuer, key, ca_key, here)
    ca_file.write_bytes(ca)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    server_file.write_bytes(private + certificate)


def _signed(subject: Any, issuer: Any, key: Any, ca_key: Any, extension: Any) -> bytes:
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(extension, critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)
