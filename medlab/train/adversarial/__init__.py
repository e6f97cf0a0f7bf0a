"""Adversarial training: the steps of generator and discriminator, and the epochs around them."""
