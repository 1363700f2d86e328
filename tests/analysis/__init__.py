"""Tests of tapegpt.analysis."""
