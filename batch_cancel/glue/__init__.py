"""The service: its seam, the real client behind it, and the pace at which it is called."""
