"""What a reader sees: help texts with examples."""

from click.testing import CliRunner

import cli


def test_every_command_shows_examples():
    for name in cli.main.commands:
        result = CliRunner().invoke(cli.main, [name, "--help"])
        assert result.exit_code == 0
        assert f"selavi {name}" in result.output.partition("Examples")[2]
