"""HTTP: REST under /api, FHIR R4 under /fhir, health and metrics."""
