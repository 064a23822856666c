"""A first plan, written from a table as it is."""
