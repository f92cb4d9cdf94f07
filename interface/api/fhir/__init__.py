"""FHIR R4 routes, search and capability statement."""
