"""The plan file: what is to become of which tables, and how. Knows no database."""
