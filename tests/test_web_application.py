"""The web application of docs/how-to: a real server, threads, and generations that are swapped meanwhile."""

import importlib.util
import json
import threading
from pathlib import Path
from types import ModuleType
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from werkzeug.serving import make_server

from dataflows.serving.store import ServingStore
from tests.support.served_demo import ServedDemo

PAGE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "web_app.py"


@pytest.fixture(scope="module")
def web_app() -> ModuleType:
    spec = importlib.util.spec_from_file_location("web_app", PAGE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answer(url: str) -> tuple[int, object]:
    try:
        with urlopen(url, timeout=30) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        return error.code, json.load(error)


def test_threads_read_whole_generations_while_they_are_swapped(
    web_app: ModuleType, served_demo: ServedDemo, tmp_path: Path
) -> None:
    serving_path = served_demo.copy(tmp_path / "data") / "serving.duckdb"
    store = ServingStore(serving_path)
    newest = store.served()
    assert newest is not None
    server = make_server("127.0.0.1", 0, web_app.create_app(serving_path), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    statuses: list[int] = []

    def ask() -> None:
        for _ in range(5):
            status, rows = answer(f"{url}/balance/0440000")
            assert isinstance(rows, list)
            statuses.append(status if rows else 0)

    try:
        readers = [threading.Thread(target=ask) for _ in range(8)]
        for reader in readers:
            reader.start()
        for number in (1, newest.number, 2, newest.number):
            store.rollback(number)
        for reader in readers:
            reader.join()
        assert statuses == [200] * 40
        status, health = answer(f"{url}/health")
        assert status == 200 and isinstance(health, dict) and health["generation"] == newest.number
    finally:
        server.shutdown()
        thread.join()


def test_the_health_check_fails_where_nothing_is_served(web_app: ModuleType, tmp_path: Path) -> None:
    client = web_app.create_app(tmp_path / "serving.duckdb").test_client()
    assert client.get("/health").status_code == 503
    assert client.get("/balance/0440000").status_code == 503
