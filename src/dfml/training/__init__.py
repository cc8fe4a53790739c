"""What methods are made of: bank, alignment, replay, pseudo-validation."""
