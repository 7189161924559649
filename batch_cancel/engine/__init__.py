"""What moves: targets found and entered, their runs discovered, cancelled and verified."""
