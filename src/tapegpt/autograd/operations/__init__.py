"""Floor 2, the operations: each in one place, forward and backward side by side."""
