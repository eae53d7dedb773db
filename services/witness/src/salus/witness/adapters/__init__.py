"""What talks to the world: the SQLite file that remembers what was cosigned."""
