"""What proves and changes nothing."""
