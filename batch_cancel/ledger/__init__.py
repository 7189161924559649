"""The record: one SQLite file, written before and after every cancel call; every report is made from it."""

LEDGER_NAME = "ledger.db"
