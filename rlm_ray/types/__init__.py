"""Types that several rooms exchange: what calls used, and JSON. They import nothing of the package."""
