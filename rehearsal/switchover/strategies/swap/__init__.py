"""The strategy swap: one rename under one lock, and its rollback."""
