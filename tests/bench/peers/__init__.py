"""What is compared: the same work, written once for each library in its own documented way.

Each module is imported in a process of its own (`tests.bench.child`) and never beside another.
"""
