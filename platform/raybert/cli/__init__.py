"""The `raybert` command: `raybert --help`."""

from raybert.cli.command_line import commands, main

__all__ = ["commands", "main"]
