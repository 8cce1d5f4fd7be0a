"""Manyhands: durable teams of agents on open-weight models."""

__version__ = "0.1.0"
