"""Rows that are made up, as production has them."""
