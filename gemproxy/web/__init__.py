"""HTTP in: the public API as Klein resources on a site of our own. Decides nothing about keys."""
