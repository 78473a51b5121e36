"""The model's library, and the channel that the engine was started with."""
