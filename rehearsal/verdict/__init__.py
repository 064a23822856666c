"""The gates, and the verdict that follows from evidence. Pure: no database, no files."""
