"""What leaves as FHIR, judged by validators and read by clients that nobody here wrote."""
