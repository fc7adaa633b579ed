"""What every room may import: it imports none of them."""
