"""What an access decision follows from: what is known of a patient, policies in Cedar, and the answer."""
