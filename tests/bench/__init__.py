"""What the hot paths cost, printed beside the least that the same work can cost (`scripts/bench`). Nothing is asserted:
a busy machine must not fail a test."""
