"""A web application over the served tables: one reader for all threads, and a health check.

Run it with `uv run --with flask flask --app docs.how-to.web_app run`, or under any threaded WSGI server.
"""

import os
from pathlib import Path

from flask import Flask, Response, jsonify
from flask.typing import ResponseReturnValue

from dataflows.errors import QueryTimeoutError, ServingError
from dataflows.serving import ServingReader

BALANCE = """
SELECT market_year, attribute_name, value, unit_name
FROM serving.agg_world_balance
WHERE commodity_code = ? AND is_complete
ORDER BY market_year, attribute_name
"""


def create_app(serving_path: Path) -> Flask:
    """The application; `serving_path` is Materia's `serving.duckdb`."""
    app = Flask(__name__)
    # One for the process: it is thread-safe and follows every swap.
    reader = ServingReader(serving_path)

    @app.get("/balance/<commodity_code>")
    def balance(commodity_code: str) -> ResponseReturnValue:
        answer = reader.query(BALANCE, [commodity_code], timeout_s=5)
        response = jsonify(answer.table.to_pylist())
        # A cache may keep the answer until the next generation.
        response.headers["ETag"] = f'"{answer.generation.number}"'
        return response

    @app.get("/health")
    def health() -> ResponseReturnValue:
        generation = reader.query("SELECT max(released_on) AS day FROM serving.dim_release", timeout_s=2)
        return jsonify(generation=generation.generation.number, newest_release=str(generation.table["day"][0]))

    @app.errorhandler(QueryTimeoutError)
    def busy(error: QueryTimeoutError) -> ResponseReturnValue:
        return jsonify(error=str(error)), 504

    @app.errorhandler(ServingError)
    def unavailable(error: ServingError) -> ResponseReturnValue:
        return jsonify(error=str(error)), 503

    @app.after_request
    def no_store_errors(response: Response) -> Response:
        if response.status_code >= 500:
            response.headers["Cache-Control"] = "no-store"
        return response

    return app


def app() -> Flask:
    """For `flask --app`: the served file that SERVING_DUCKDB_PATH names, by default that of this checkout."""
    return create_app(Path(os.environ.get("SERVING_DUCKDB_PATH", "data/serving.duckdb")))
