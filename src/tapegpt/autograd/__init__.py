"""The tape: operations recorded once, differentiated, rewritten and compiled."""
