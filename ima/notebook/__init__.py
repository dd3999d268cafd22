"""Run notebooks with checked parameters, whole or not at all."""
