"""``mimia attacks``."""

import typer

from mimia.cli.output import print_table

app = typer.Typer()


@app.command()
def attacks() -> None:
    """List the attacks and the signals that they take, with their requirements and papers."""
    from mimia.attacks.selection import attack_table, signal_table

    for rows in (attack_table(), signal_table()):
        print_table(rows)
    typer.echo("No attack takes a label of an image, or the target's membership.")
