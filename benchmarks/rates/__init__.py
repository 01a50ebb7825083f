"""The suite of learning rates: many small tasks, and every method that sets a rate, on each."""
