"""The output for people: terminal, progress and the HTML report."""
