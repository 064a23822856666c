"""What one run keeps: events (what happened) and evidence (what was seen)."""
