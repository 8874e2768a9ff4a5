"""A namespace on the real Iceberg catalog for each test."""

import pytest

from tests.support.lake import Lake
from tests.support.object_server import ObjectServer


@pytest.fixture
def lake(server: ObjectServer) -> Lake:
    return Lake.of(server)
