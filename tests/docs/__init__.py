"""Documents that are held to the program."""
