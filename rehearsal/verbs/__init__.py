"""The verbs of the command line, declared: what parser, `./inv` and README.md are made of."""
