"""What identity providers may say: SCIM 2.0 (RFC 7643, 7644), security events (RFC 8417, 8935, CAEP, RISC), a CSV file.

Serves NIST SP 800-53 PS-4, PS-5 and AC-2(13). All of it can only lower eligibility: the one effect is that a person is
suspended, which ends at once everything that they hold. Nothing that arrives here brings anybody back.
"""
