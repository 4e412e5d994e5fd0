"""A small archive made on the spot, so that every verb can be tried without any data."""
