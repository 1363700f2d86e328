"""Tests of tapegpt.cluster."""
