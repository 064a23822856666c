"""Strategy dual-write: both tables stay in use, equal in every snapshot; flags of the application decide."""
