"""The tests of hours: slices, one after the other, that go on where they were killed."""
