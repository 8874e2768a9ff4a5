"""`materia completion`: shell completion scripts."""

import click
from click.shell_completion import get_completion_class


@click.command(short_help="Print a shell completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for a shell.

    \b
    bash:  eval "$(materia completion bash)"            in ~/.bashrc
    zsh:   eval "$(materia completion zsh)"             in ~/.zshrc
    fish:  materia completion fish | source             in ~/.config/fish/config.fish
    """
    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(ctx.find_root().command, {}, "materia", "_MATERIA_COMPLETE").source())
