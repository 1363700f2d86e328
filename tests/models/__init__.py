"""Tests of tapegpt.models."""
