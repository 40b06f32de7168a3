"""Networks written as strings, which predictors read. Importing the package is light; its modules need torch."""
