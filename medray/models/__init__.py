"""Networks and what is done to their inputs in training; torch only."""
