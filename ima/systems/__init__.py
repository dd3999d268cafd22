"""The paper's own method and eight related systems: what each promised, and what was measured."""
