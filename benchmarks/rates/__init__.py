"""The suite of learning rates: many small tasks, each with every method that sets a rate."""
