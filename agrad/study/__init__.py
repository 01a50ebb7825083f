"""The papers' experiments and the reports made from them."""
