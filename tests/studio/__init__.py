"""Tests of tapegpt.studio."""
