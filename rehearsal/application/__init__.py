"""The application: its routing flags, what it answers, its pages and its sources."""
