"""`materia serving push` and `pull`: copy generations between this host and the bucket."""

from typing import Any

import click

from ops.cli.output import print_json
from ops.config.settings import Settings


@click.command(short_help="Copy a generation of this host to the bucket.")
@click.option(
    "--generation",
    "number",
    type=click.IntRange(min=1),
    help="The generation to push. Default: the newest on this host.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def push(number: int | None, as_json: bool) -> None:
    """Make a generation of this host the newest of the bucket, for other hosts to pull.

    Does nothing if it already is.
    """
    from dataflows.errors import ServingMissingError
    from dataflows.serving.store import ServingStore
    from ops.pipelines.remote import required_remote

    settings = Settings.from_environ()
    remote, serving = required_remote(settings), ServingStore(settings.serving_path)
    kept = serving.generations()
    if not kept:
        raise ServingMissingError(f"there is no generation beside {settings.serving_path}; run `materia run-all`")
    here = serving.check(number or kept[-1].number)
    there = remote.generations.push(here, serving.path(here.number))
    _print_result(as_json, f"generation {here.number} is generation {there.number} of the bucket", there)


@click.command(short_help="Fetch a generation from the bucket, verify it and serve it.")
@click.option(
    "--generation", "number", type=click.IntRange(min=1), help="Its number in the bucket. Default: the newest."
)
@click.option("--force", is_flag=True, help="Serve it even if the gate refuses it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def pull(number: int | None, force: bool, as_json: bool) -> None:
    """Fetch a generation from the bucket, verify it and serve it, atomically.

    Without a number: fetch the newest; do nothing if this host has it already, served or rolled back. The generation
    keeps its number unless another file has that number here; then it gets the next free one.
    """
    from dataflows.errors import ServingMissingError
    from dataflows.serving.remote import copy_of
    from dataflows.serving.store import ServingStore
    from dataflows.serving.sync import pull_checked
    from ops.host.lock import writer_lock
    from ops.pipelines.remote import required_remote

    settings = Settings.from_environ()
    remote, serving = required_remote(settings), ServingStore(settings.serving_path)
    wanted = remote.generations.generation(number) if number else remote.generations.newest()
    if wanted is None:
        raise ServingMissingError("the bucket holds no generation yet; `materia run-all` or `materia serving push`")
    if number is None and (here := copy_of(wanted, serving)) is not None and serving.served() is not None:
        _print_result(
            as_json, f"nothing new: generation {wanted.number} of the bucket is generation {here.number} here", here
        )
        return
    settings.serving_path.parent.mkdir(parents=True, exist_ok=True)
    with writer_lock(settings.lock_path, "serving pull"):
        pulled = pull_checked(remote.generations, serving, wanted, settings.max_row_loss, forced=force)
    _print_result(as_json, f"generation {wanted.number} of the bucket is served as generation {pulled.number}", pulled)


def _print_result(as_json: bool, line: str, generation: Any) -> None:
    if as_json:
        print_json(generation)
    else:
        click.echo(line)
