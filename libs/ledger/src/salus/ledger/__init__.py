"""The pure ledger: Merkle trees, signed notes, blocks, tiles, checkpoints, receipts."""
