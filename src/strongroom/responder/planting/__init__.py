"""Planting decoys: sealed directories whose key nobody has, and credentials that open nothing."""
