"""Tests of tapegpt.engines."""
