"""What is sent to a competition: packed with its source, kept in a ledger, and checked before it goes."""
