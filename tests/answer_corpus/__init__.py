"""Citations whose truth is known: true ones written by hand, corrupted ones made from them."""
