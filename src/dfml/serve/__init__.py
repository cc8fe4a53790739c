"""Models as servers: what others may ask of them, over HTTP."""
