"""FHIR searches as SQL: `fields`, what a parameter looks at; `kinds`, the table of types; `engine`, statements."""
