"""The smart contract of consent: `consents` holds patients' wishes, `decisions` answers from them."""
