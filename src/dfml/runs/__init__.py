"""A run: its folder, its loop, its checkpoints and what is read from it afterwards."""
