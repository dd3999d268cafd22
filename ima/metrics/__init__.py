"""How well a model does: captions, answers and hallucination against references."""
