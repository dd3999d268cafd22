"""Change what a frozen model computes: noise, untrained blocks, attention knockout, steering."""
