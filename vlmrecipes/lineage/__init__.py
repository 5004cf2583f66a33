"""From a number back to the pixels, and from a picture or a source forward to every number it has touched."""
