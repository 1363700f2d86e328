"""The arithmetic of training and generation for any model: exact, fast, and the reference."""
