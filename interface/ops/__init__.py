"""Keeping it alive: checks an administrator runs."""
