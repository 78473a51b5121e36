"""AMD SEV-SNP: the formats of its evidence, read without trust (AMD 56860, 57230 and 56421).

SL3: machines that hold weights prove their state before they get a key (RAND SL3-WST-02); nothing here decides.
"""
