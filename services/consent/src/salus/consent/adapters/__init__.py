"""How consent talks to the world: Cedar evaluates, tokens are signed, FHIR is spoken."""
