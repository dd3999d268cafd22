"""How fast this machine captures, writes and reads activations."""
