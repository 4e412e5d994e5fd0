"""Measurements this project is judged by. `make figures NAME=image` prints them."""
