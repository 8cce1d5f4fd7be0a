"""Attempts to write, read, reach or outlive what a sandbox must keep apart: each its own test."""
