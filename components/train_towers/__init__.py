"""The step `train_towers`."""
