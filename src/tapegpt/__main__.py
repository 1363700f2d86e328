"""`python -m tapegpt`."""

from tapegpt.cli import run

run()
