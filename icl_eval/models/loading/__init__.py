"""From a name to a loaded model: what the name means, what a checkpoint says of itself, and on which devices it is."""
