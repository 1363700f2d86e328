"""Tests of tapegpt.data."""
