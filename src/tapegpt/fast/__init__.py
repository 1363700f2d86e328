"""Floor 4, the fast engine: its graph, its kernels for a whole training, and the engine itself."""
