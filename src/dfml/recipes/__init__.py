"""Recipes (TOML), the options that they set, and how both become a method."""
