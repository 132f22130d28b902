"""Replays: runs recorded step by step, to be computed again and compared."""
