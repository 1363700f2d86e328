"""Training a model: schedule, budget, callbacks, recordings."""
