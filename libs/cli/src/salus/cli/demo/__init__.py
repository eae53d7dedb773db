"""`salus demo`: one story on real parts with real synthetic patients, told while it happens and checked."""
