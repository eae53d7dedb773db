"""Settings, telemetry, the service skeleton and the fold store."""
