"""What confines the programs of others, shared by the adapters that run them (jobs, sandboxes).

Modules: the supervisor that is the first process of each tree, what it reports, the limits that
are watched from outside, which processes there are, and what of this machine may be seen.
"""
