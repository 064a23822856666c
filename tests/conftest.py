"""Plugins and markers only."""

pytest_plugins = ["tests.fix_app", "tests.fix_fleet", "tests.fix_postgres", "tests.fix_tables"]
