"""How audit talks to the world."""
