"""Servers of tools that other people wrote."""
