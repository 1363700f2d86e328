"""Benchmarks of tapegpt: `python -m benchmarks`. Each checks its results before it measures time.

Contenders take turns (A B A B), so that a busy moment of the machine affects all of them; figures are medians with
the lowest and the highest. They need a POSIX system for `wait4`, and other packages only to compare with.
Not here: tests.
"""
