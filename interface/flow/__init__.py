"""Use cases: what happens to a message, an order, a result. API and CLI share them."""
