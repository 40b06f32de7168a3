"""The page of the integration experiment."""
