"""What moves: discovery, cancelling, verifying, and the ledger they write to."""
