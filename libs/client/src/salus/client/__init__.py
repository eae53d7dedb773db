"""What integrators install: publish signed events, await receipts."""
