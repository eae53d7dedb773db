"""The law of the audit trail: what a fact means, and how FHIR and OCSF say it. Nothing here does I/O."""
