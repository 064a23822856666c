"""The strategy attach: the table becomes a partition, without a copy."""
