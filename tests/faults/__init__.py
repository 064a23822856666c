"""Faults that outsiders found, each as a scenario, and a mutant that puts the old behaviour back and is caught."""
