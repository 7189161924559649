"""From the ledger to what people and programs read."""
