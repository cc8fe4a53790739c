"""Training whole zoos of small classifiers."""
