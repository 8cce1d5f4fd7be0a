"""An inventory: quantities, a store, orders."""
