"""How well predictors rank networks, and how fast they are."""
