"""What ``experiments.report`` writes: rows as runs, their statistics, figures, and the document around them."""
