"""What a table is, read from the catalog. Changes nothing."""
