"""A made-up Glue: one world with two faces, in memory and on loopback."""
