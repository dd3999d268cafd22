"""The miniature world: scenes, clips, sounds and language, generated from a seed."""
