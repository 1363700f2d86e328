"""How many examples a property is held to: few, or as many as it names with `--hypothesis-profile thorough`."""

from __future__ import annotations

from hypothesis import settings

FEW = 10
QUICK, THOROUGH = "quick", "thorough"
settings.register_profile(QUICK, deadline=None, max_examples=FEW)  # no deadline: an example may have to compile
# The same examples each time, so that CI refuses no change for what was there before; quick runs look for new ones.
settings.register_profile(THOROUGH, deadline=None, max_examples=100, derandomize=True)


def examples(count: int, few: int = FEW) -> int:
    """So many where there is time for them, else a few: less where each is a compilation or a training."""
    return count if settings.get_current_profile_name() == THOROUGH else min(count, few)
