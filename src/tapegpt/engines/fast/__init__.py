"""The fast engine: its kernels for a whole training, and the engine itself."""
