"""Tests of tapegpt.web."""
