"""One strategy each: how a table becomes partitioned, and how that is taken back."""
