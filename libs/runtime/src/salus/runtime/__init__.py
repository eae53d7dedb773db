"""Settings, telemetry, authentication and the service skeleton."""
