"""Tests of tapegpt.experiments."""
