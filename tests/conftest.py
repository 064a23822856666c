"""Plugins and markers only."""

pytest_plugins = ["tests.fix_postgres", "tests.fix_app"]
