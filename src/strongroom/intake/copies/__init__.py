"""Where every copy is: a signed register, and copies found by what is in them (SL2-WMO-02)."""
