"""Keys, certificates and passwords of the environment, made on this machine; each is made once.

Owns `<base>/ssh/`, `<base>/tls/` and `<base>/secrets/`, readable by this user only. None of them is ever in an image
of the base hosts, in a command or in a log.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet.machines.layout import Layout

ROLES = ("migrator", "app", "monitor", "parity")
DAYS = 825
PEM, OPENSSH = serialization.Encoding.PEM, serialization.Encoding.OpenSSH
PLAIN = serialization.NoEncryption()


def make_keys(layout: Layout) -> list[str]:
    """Make what is missing; return what was made."""
    for folder in ("ssh", "tls", "secrets"):
        (layout.base / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    made = [*_ssh_key(layout.base / "ssh"), *_passwords(layout.base / "secrets")]
    return [*made, *_authority(layout.base / "tls"), *_server(layout)]


def ssh_key(layout: Layout) -> Path:
    """Return the file of the private key that logs in to the hosts."""
    return layout.base / "ssh" / "id_ed25519"


def known_hosts(layout: Layout) -> Path:
    """Return the file with the keys of the hosts."""
    return layout.base / "ssh" / "known_hosts"


def write(path: Path, content: bytes) -> None:
    """Write a file that only this user may read, in one step."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    new.replace(path)


def _ssh_key(folder: Path) -> list[str]:
    path = folder / "id_ed25519"
    if path.exists():
        return []
    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(OPENSSH, serialization.PublicFormat.OpenSSH)
    write(folder / "id_ed25519.pub", public + b" pg-rehearsal\n")
    write(path, key.private_bytes(PEM, serialization.PrivateFormat.OpenSSH, PLAIN))
    return ["SSH key"]


def _passwords(folder: Path) -> list[str]:
    missing = [role for role in ROLES if not (folder / f"{role}.password").exists()]
    for role in missing:
        write(folder / f"{role}.password", f"{secrets.token_urlsafe(24)}\n".encode())
    return [f"password of the {role} role" for role in missing]


def _authority(folder: Path) -> list[str]:
    if (folder / "ca.crt").exists():
        return []
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("pg-rehearsal authority of this environment")
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = _builder(name, name, key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    _write_pair(folder, "ca", key, builder.sign(key, hashes.SHA256()))
    return ["certificate authority"]


def _server(layout: Layout) -> list[str]:
    """Make the database host's certificate; anew if the host has got another address or it ends within a month."""
    folder, machine = layout.base / "tls", layout.find("db")
    names: list[x509.GeneralName] = [
        x509.DNSName(machine.name),
        x509.IPAddress(ipaddress.ip_address(machine.address)),
    ]
    if _is_good(folder / "server.crt", names):
        return []
    authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    signer = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):  # we made it, so this is another's file
        message = f"{folder / 'ca.key'} is no key of ours; remove the folder {folder} and run again"
        raise TypeError(message)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name(machine.name), authority.subject, key.public_key())
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    _write_pair(folder, "server", key, builder.sign(signer, hashes.SHA256()))
    return ["certificate of the database host"]


def _is_good(path: Path, names: list[x509.GeneralName]) -> bool:
    if not path.exists():
        return False
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    have = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    left = certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)
    return list(have) == names and left > dt.timedelta(days=30)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    # An hour back: the clocks of hosts differ.
    return builder.not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + dt.timedelta(days=DAYS))


def _write_pair(folder: Path, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    write(folder / f"{name}.key", key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, PLAIN))
    write(folder / f"{name}.crt", certificate.public_bytes(PEM))
