"""One module a group of commands: arguments in, exit code out."""
