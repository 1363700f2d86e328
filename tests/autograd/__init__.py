"""Tests of tapegpt.autograd."""
