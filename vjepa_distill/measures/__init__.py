"""What an encoder knows: frozen features of videos, and probes of them."""
