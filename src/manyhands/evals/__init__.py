"""Tasks with a verifier, and what teams come to on them."""
