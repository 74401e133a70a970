"""What requests cost: a price list and the calculation. ``prices.yaml`` is the shipped list."""
