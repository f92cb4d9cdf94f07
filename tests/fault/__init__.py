"""Everything is broken, under load, again and again; then what was acknowledged is looked for. See docs/evidence.md."""
