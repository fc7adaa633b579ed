"""From a generator to `images.zip`: generating, packing, checking, and reading back."""
