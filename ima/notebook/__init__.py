"""Notebooks: run them with checked parameters, whole or not at all, and quote numbers in prose."""

from ima.notebook.prose import say

__all__ = ["say"]
