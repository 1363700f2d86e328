"""Tests of tapegpt.inference."""
