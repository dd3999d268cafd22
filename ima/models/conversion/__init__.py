"""From the files that packages carry to ordinary transformers folders; one module per format."""
