"""What contract services share: the fold of topics into state, and the host that executes commands on it."""
