"""Orders the effects: patients' keys, storing, reading, inspecting."""
