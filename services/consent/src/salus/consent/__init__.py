"""Who may do what, for which purpose, decided with Cedar."""
