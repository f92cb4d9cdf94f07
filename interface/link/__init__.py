"""Byte streams with an analyzer or a hospital at the other end. Knows its intake by protocol only."""
