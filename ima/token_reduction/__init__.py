"""Token reduction: frozen models that prune tokens or let them skip computation."""
