"""The networks, and the table of recipes that trains them.

Constructors of networks take the same keyword arguments, as far as they need them:

    size: side of the pictures, pixels (see `kit.models.layers.split_size`).
    channels: 1 (grey) or 3 (RGB).
    latent: length of z.
    width: channels of the largest map, or as the class says.
    classes: number of classes; 0 is unconditional.
    embedding: length of the vector for a class, which is put beside z, or beside a map of D.
    norm: normalization of the hidden layers, a key of `kit.models.layers.NORMS`.
"""
