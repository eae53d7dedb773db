"""FHIR R4: what comes in is kept exactly or refused by its element, what goes out is a resource."""
