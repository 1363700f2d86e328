"""Many trainings: sweeps and scaling laws."""
