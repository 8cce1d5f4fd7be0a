"""An agent's working copy: its changes are journaled call by call, and outlive a crash."""
