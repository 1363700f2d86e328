"""Strings from wherever they come, as tokens; and random numbers."""
