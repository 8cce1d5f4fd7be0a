"""Checks of steps: good scripted runs, faults placed in them, and what is flagged."""
