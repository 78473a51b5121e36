"""The API's routes, one file for each group. They read bodies, call the broker, and shape answers; no more."""
