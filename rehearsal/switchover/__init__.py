"""The engine: everything that changes a table, there and back."""
