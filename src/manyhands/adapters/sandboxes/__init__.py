"""Workspaces with commands and files, isolated from the machine and from each other."""
