"""The command line: one short function per command, each calling the function of the same name."""

# ruff: isort: skip_file
# The commands stand in the order of --help.
from labelwise.cli.app import app
from labelwise.cli import runs, models, embeddings, about, process
from labelwise.cli.process import main

__all__ = ["about", "app", "embeddings", "main", "models", "process", "runs"]
