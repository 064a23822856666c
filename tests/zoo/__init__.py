"""The zoo: tables with every feature that a table may have, each brought forward, back and forward again."""
