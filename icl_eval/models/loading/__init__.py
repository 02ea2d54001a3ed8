"""From a name to a loaded model: find and check its checkpoint, then load the weights onto devices."""
