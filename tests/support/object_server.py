"""A real S3 server on loopback: SeaweedFS's `weed mini`, with identities that may read, write or neither.

It is an Iceberg REST catalog as well, which grants tokens to the same identities and vends credentials per table.
"""

import json
import secrets
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from dataflows.objects.store import Bucket

START_TIMEOUT_S = 40.0
BUCKET = "raw"
WAREHOUSE = "lake"
VOLUMES = 1000
"""Each bucket takes a volume of its own, a sparse file."""
# Of its own for every process of tests, as some of them look through all processes of the machine.
_OURS = secrets.token_hex(4)
CANARY = f"c4n4ryS3cr3tK3yThatMustNeverBeSeen{_OURS}"
"""The writer's secret key: whatever a test provokes, this text may appear nowhere."""
CANARY_ID = f"c4n4ryAcc3ssK3yId{_OURS}"


@dataclass(frozen=True)
class Identity:
    """Who may do what on the server."""

    name: str
    access_key: str
    secret_key: str
    actions: tuple[str, ...]


WRITER = Identity("writer", CANARY_ID, CANARY, ("Admin", "Read", "Write", "List", "Tagging"))
READER = Identity("reader", "r34d0nly", "r34d0nlyS3cr3tK3y", ("Read", "List"))


_VENDED_ROLE = "arn:aws:iam::role/lake"
_VENDING = {
    "sts": {
        "tokenDuration": "1h",
        "maxSessionLength": "2h",
        "issuer": "tests",
        "signingKey": "dGhlc2UgdGVzdHMgb25seSwgbG9vcGJhY2sgb25seQ==",
    },
    "policy": {"defaultEffect": "Deny", "storeType": "memory"},
    "roles": [
        {
            "roleName": "lake",
            "roleArn": _VENDED_ROLE,
            "trustPolicy": {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": {"Federated": "iceberg-catalog"},
                        "Action": ["sts:AssumeRoleWithCredentials"],
                    }
                ],
            },
            "attachedPolicies": ["lake"],
        }
    ],
    "policies": [
        {
            "name": "lake",
            "document": {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Action": ["s3:*"],
                        "Resource": [f"arn:aws:s3:::{WAREHOUSE}", f"arn:aws:s3:::{WAREHOUSE}/*"],
                    }
                ],
            },
        }
    ],
}
"""The role that the catalog takes on when it vends credentials; without one it vends none."""


class ObjectServer:
    """`weed mini` with one bucket and one warehouse; ended by its own pid."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ports = _free_ports(6)
        self.endpoint = f"http://127.0.0.1:{self._ports[3]}"
        self.catalog_uri = f"http://127.0.0.1:{self._ports[4]}"
        self._process: subprocess.Popen[bytes] | None = None
        self.client = self._client()

    def __enter__(self) -> Self:
        data, iam = self._directory / "data", self._directory / "iam.json"
        data.mkdir(parents=True, exist_ok=True)
        iam.write_text(json.dumps({"identities": [_record(identity) for identity in (WRITER, READER)], **_VENDING}))
        master, volume, filer, s3, iceberg, admin = self._ports
        command = [
            str(shutil.which("weed", path=str(Path(sys.executable).parent)) or "weed"),
            "mini",
            f"-dir={data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-master.port={master}",
            f"-volume.port={volume}",
            f"-filer.port={filer}",
            f"-s3.port={s3}",
            f"-s3.port.iceberg={iceberg}",
            f"-admin.port={admin}",
            "-s3.port.lance=0",
            "-webdav=false",
            "-admin.ui=false",
            "-master.telemetry=false",
            "-s3.autoCreateBucket=false",
            # By default a share of the free disk space: on a small disk the last of a hundred buckets finds none.
            f"-volume.max={VOLUMES}",
            f"-s3.config={iam}",
            f"-s3.iam.config={iam}",
            f"-s3.externalUrl={self.endpoint}",
            f"-bucket={BUCKET}",
            f"-tableBucket={WAREHOUSE}",
            f"-s3.iceberg.credentialRole={_VENDED_ROLE}",
        ]
        with (self._directory / "weed.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._directory)
        try:
            self._await_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()  # what it holds goes with the directory: nothing to wait for
            self._process.wait()

    def bucket(self, identity: Identity = WRITER, *, endpoint: str | None = None, name: str = BUCKET) -> Bucket:
        """The bucket as `identity` reaches it, by default directly."""
        return Bucket(endpoint or self.endpoint, name, identity.access_key, identity.secret_key)

    def _client(self) -> Any:
        """A bare boto3 client of the writer, which owes nothing to the code under test."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="auto",
            aws_access_key_id=WRITER.access_key,
            aws_secret_access_key=WRITER.secret_key,
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    def _await_ready(self) -> None:
        """Wait until an object can be written and read; the ports open before that."""
        from botocore.exceptions import BotoCoreError, ClientError

        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.client.put_object(Bucket=BUCKET, Key="ready", Body=b"ready")
                self.client.delete_object(Bucket=BUCKET, Key="ready")
                self._ask_catalog()
                return
            except (BotoCoreError, ClientError, URLError):
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _ask_catalog(self) -> None:
        """Raise URLError until the warehouse answers a request with a token."""
        form = {"grant_type": "client_credentials", "client_id": CANARY_ID, "client_secret": CANARY}
        with urlopen(f"{self.catalog_uri}/v1/oauth/tokens", urlencode(form).encode()) as answer:
            token = json.load(answer)["access_token"]
        listing = Request(f"{self.catalog_uri}/v1/{WAREHOUSE}/namespaces", headers={"Authorization": f"Bearer {token}"})
        urlopen(listing).close()


def _record(identity: Identity) -> dict[str, object]:
    credentials = [{"accessKey": identity.access_key, "secretKey": identity.secret_key}]
    return {"name": identity.name, "credentials": credentials, "actions": list(identity.actions)}


def _free_ports(count: int) -> list[int]:
    """Ports that are free together with those 10,000 above them, where weed listens for gRPC."""
    held: list[socket.socket] = []
    ports: list[int] = []
    try:
        while len(ports) < count:
            low = socket.socket()
            low.bind(("127.0.0.1", 0))
            held.append(low)
            port = low.getsockname()[1]
            high = socket.socket()
            held.append(high)
            # Ephemeral ports start high: the ones for weed are moved down, so that the gRPC ones stay below 65536.
            candidate = port - 22_000 if port > 45_000 else port
            try:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", candidate))
                high.bind(("127.0.0.1", candidate + 10_000))
            except OSError:
                continue
            if candidate not in ports and candidate + 10_000 not in ports and candidate - 10_000 not in ports:
                ports.append(candidate)
    finally:
        for each in held:
            each.close()
    return ports
