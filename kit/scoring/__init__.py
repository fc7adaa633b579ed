"""How good the pictures are: pictures → features → statistics → one number, each layer usable alone."""
