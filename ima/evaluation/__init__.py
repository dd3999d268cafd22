"""How well models do: answers and captions against the truth, each score with its interval."""
