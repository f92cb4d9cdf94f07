"""PostgreSQL: the schema, the journal, and everything that is read from or written to it."""
