"""The ledger as it lies in the object store: block bodies and headers, the tile log, receipts, fsck."""
