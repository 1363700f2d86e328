"""Tests of tapegpt.machine."""
