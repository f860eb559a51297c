"""Checks a mapping against a sample of a stream or a file, and proposes one. Nothing here writes."""
