"""Benchmarks of tapegpt: `python -m benchmarks`. Each asserts the results before it takes a time.

Contenders take turns (A B A B), so that a busy moment of the machine hits them all; figures are medians with the
lowest and the highest. Standard library only, and PyTorch for the peer of that name; needs a POSIX system for `wait4`.
Not here: tests.
"""
