"""Turns every fact into a searchable trail, FHIR AuditEvent and OCSF."""
