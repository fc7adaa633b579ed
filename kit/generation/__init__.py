"""From a generator to `images.zip`: sampled, packed, checked, and read back."""
