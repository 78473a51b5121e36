"""Intel's quotes of trust domains (TDX) and of enclaves (SGX): their formats, and the collateral that Intel signs.

Layouts are those of Intel's "TDX DCAP Quoting Library API", appendix 3, of ``sgx_quote_3.h`` to ``sgx_quote_5.h`` and
of the TDX Module ABI specification (348551-008US). Nothing here is believed; ``verifiers.intel`` does that.
"""
