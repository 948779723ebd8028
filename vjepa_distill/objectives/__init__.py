"""The built-in objectives; each enters through the registry like a plugin's."""
