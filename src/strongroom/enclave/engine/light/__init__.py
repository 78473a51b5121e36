"""The engine that needs numpy and safetensors, and no more."""
