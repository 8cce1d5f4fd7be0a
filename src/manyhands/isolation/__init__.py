"""What confines the programs of others, shared by the adapters that run them (jobs, sandboxes).

Modules: the supervisor that is the first process of each tree, how it is driven from outside and
what it reports, the limits that are watched meanwhile, which processes there are, and what of this
machine may be seen.
"""
