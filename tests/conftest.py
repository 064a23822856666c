"""Plugins and markers only."""

pytest_plugins = ["tests.fix_app", "tests.fix_postgres", "tests.fix_tables"]
