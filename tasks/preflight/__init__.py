"""Checks that run before anything is read or written. Each module checks one thing."""
