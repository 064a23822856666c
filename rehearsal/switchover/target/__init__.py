"""What a target is made of."""
