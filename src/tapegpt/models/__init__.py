"""Models: each a record of its settings with its forward pass."""
