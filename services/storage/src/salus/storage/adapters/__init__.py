"""Storage's hands: the fold, the vault and the decision tokens."""
