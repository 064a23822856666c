"""How hosts are reached, and what was found there."""
