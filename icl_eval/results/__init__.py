"""What a run stores: the folder and its files, and the types of what is in them."""
