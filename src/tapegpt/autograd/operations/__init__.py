"""The operations of the tape: each in one file, its backward next to its forward."""
