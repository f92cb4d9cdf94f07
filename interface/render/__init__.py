"""Domain objects in other people's shapes: FHIR, documents, pictures. Pure."""
