"""What the federation of these tests makes on the spot: certificates and node keys."""

import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from .certificates import write_certificates, write_node_key
from .federation import free_ports


def test_the_server_certificate_is_for_loopback_and_signed(tmp_path: Path) -> None:
    write_certificates(tmp_path)
    authority = x509.load_pem_x509_certificate((tmp_path / "ca.crt").read_bytes())
    server = x509.load_pem_x509_certificate((tmp_path / "server.pem").read_bytes())
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    addresses = names.value.get_values_for_type(x509.IPAddress)
    assert addresses == [ipaddress.ip_address("127.0.0.1")]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")


def test_node_keys_are_pairs_that_only_the_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "node"
    write_node_key(path)
    private = serialization.load_ssh_private_key(path.read_bytes(), None)
    public = private.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    assert public == path.with_suffix(".pub").read_bytes()
    assert path.stat().st_mode & 0o077 == 0


def test_free_ports_differ() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert min(ports) > 1023
