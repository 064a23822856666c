"""The plan's queries, before and after: their plans and their speed."""
