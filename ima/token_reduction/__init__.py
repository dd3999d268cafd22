"""Run a frozen model while perceptual tokens skip parts of it or leave it."""
