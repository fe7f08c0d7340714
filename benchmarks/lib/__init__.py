"""What the commands and the asv suites of this folder are made of."""
