"""The code team: an orchestrator that cannot touch files, explorers that cannot write, coders."""
