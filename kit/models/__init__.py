"""The networks, and the table of recipes that trains them."""
