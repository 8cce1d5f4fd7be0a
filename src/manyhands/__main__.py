"""``python -m manyhands`` is the command line."""

from manyhands.cli import main

main()
