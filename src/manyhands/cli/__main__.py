"""``python -m manyhands.cli`` is the command line."""

from manyhands.cli import main

main()
