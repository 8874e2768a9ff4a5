"""The keys of one worker, generated for it and never written to disk here."""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dataflows.errors import SettingsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True)
class KeyPair:
    """An ed25519 key pair in OpenSSH format."""

    private: str = field(repr=False)
    public: str

    @property
    def short(self) -> str:
        """The first characters of the public key's SHA-256, short enough for a label."""
        return hashlib.sha256(base64.b64decode(self.public.split()[1])).hexdigest()[:16]


def new_key() -> KeyPair:
    """Generate a key pair."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return pair_of(Ed25519PrivateKey.generate())


def client_key_of(private: str) -> KeyPair:
    """The key pair of an ed25519 private key in OpenSSH format; raises SettingsError for any other text."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        key = serialization.load_ssh_private_key(private.strip().encode() + b"\n", password=None)
    except (ValueError, TypeError) as error:
        raise SettingsError("MATERIA_SUPERVISOR_SSH_PRIVATE_KEY must be an OpenSSH key without a passphrase") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError("MATERIA_SUPERVISOR_SSH_PRIVATE_KEY must be an ed25519 key; see `ssh-keygen -t ed25519`")
    return pair_of(key)


def pair_of(key: "Ed25519PrivateKey") -> KeyPair:
    """The key pair of a private key, in OpenSSH format."""
    from cryptography.hazmat.primitives import serialization

    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return KeyPair(private.decode(), public.decode())


def cloud_init(host_key: KeyPair, public_key: str, ssh_port: int) -> str:
    """The cloud-init input of a new machine: host key, root's authorized key, and required packages.

    JSON is valid YAML. It contains no secret of a pipeline, because it stays readable on the machine.
    """
    sshd = ["PasswordAuthentication no", "KbdInteractiveAuthentication no", f"Port {ssh_port}"]
    config = {
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": host_key.private, "ed25519_public": host_key.public},
        "ssh_pwauth": False,
        # Without this most images let only a user of their own log in, with a different name each.
        "disable_root": False,
        "ssh_authorized_keys": [public_key],
        "write_files": [{"path": "/etc/ssh/sshd_config.d/10-materia.conf", "content": "\n".join(sshd) + "\n"}],
        "package_update": True,
        "packages": ["git", "python3-venv"],
        "runcmd": [["systemctl", "restart", "ssh"]],
    }
    return "#cloud-config\n" + json.dumps(config, indent=1) + "\n"
