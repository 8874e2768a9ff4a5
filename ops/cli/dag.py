"""`materia dag`: a picture of a dataflow."""

import sys
from pathlib import Path

import click

_ENDINGS = {".svg": "svg", ".png": "png", ".dot": "dot", ".gv": "dot", ".mmd": "mermaid"}


@click.command(short_help="Draw a dataflow.")
@click.argument("name", type=click.Choice(["extract", "export"]))
@click.option(
    "--format", "kind", type=click.Choice(["svg", "png", "dot", "mermaid"]), help="Default: the suffix of FILE."
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Output file.")
def dag(name: str, kind: str | None, output: Path | None) -> None:
    """Draw the functions of a dataflow with their inputs and return types, by default as Mermaid text.

    SVG and PNG need the program `dot` (Graphviz); DOT and Mermaid need nothing.
    """
    from ops.pipelines import dag as pictures

    kind = kind or (_ENDINGS.get(output.suffix, "mermaid") if output else "mermaid")
    if kind == "png" and output is None and sys.stdout.isatty():
        raise click.UsageError("cannot print a PNG to a terminal; write it to a file with -o FILE")
    graph = pictures.dag_of(name)
    match kind:
        case "svg":
            content = pictures.svg_bytes(graph)
        case "png":
            content = pictures.png_bytes(graph)
        case "dot":
            content = pictures.dot_text(graph).encode()
        case _:
            content = pictures.mermaid_text(graph).encode()
    if output is None:
        sys.stdout.buffer.write(content)
        return
    try:
        output.write_bytes(content)
    except OSError as error:
        raise click.UsageError(f"{error.strerror}: cannot write {output}") from error
