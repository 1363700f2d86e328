"""Tests of tapegpt.training."""
