"""The demo: the whole way once, from analyzers' bytes to an EMR's FHIR, over real ports and against what was sent."""
