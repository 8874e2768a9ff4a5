"""`materia dag`: a picture of a dataflow."""

import sys
from pathlib import Path

import click

_ENDINGS = {".svg": "svg", ".png": "png", ".dot": "dot", ".gv": "dot", ".mmd": "mermaid"}


@click.command(short_help="Draw a dataflow.")
@click.argument("name", type=click.Choice(["extract", "export"]))
@click.option("--format", "kind", type=click.Choice(["svg", "png", "dot", "mermaid"]), help="Else as FILE ends.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write it there.")
def dag(name: str, kind: str | None, output: Path | None) -> None:
    """Draw the functions of a dataflow, what each returns, and what it takes. Without options, as Mermaid text.

    SVG and PNG are drawn by the program `dot`; DOT and Mermaid need nothing.
    """
    from ops.pipelines import dag as pictures

    kind = kind or (_ENDINGS.get(output.suffix, "mermaid") if output else "mermaid")
    if kind == "png" and output is None and sys.stdout.isatty():
        raise click.UsageError("a PNG is nothing for a terminal; say where to with -o FILE")
    drawn = pictures.dag_of(name)
    match kind:
        case "svg":
            content = pictures.svg_bytes(drawn)
        case "png":
            content = pictures.png_bytes(drawn)
        case "dot":
            content = pictures.dot_text(drawn).encode()
        case _:
            content = pictures.mermaid_text(drawn).encode()
    if output is None:
        sys.stdout.buffer.write(content)
        return
    try:
        output.write_bytes(content)
    except OSError as error:
        raise click.UsageError(f"cannot write {output}: {error.strerror}") from error
