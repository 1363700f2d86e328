"""Causal self-attention: in f64 (`exact.py`), and in f32 for short documents, strings (`pairs.py`) and long ones."""
