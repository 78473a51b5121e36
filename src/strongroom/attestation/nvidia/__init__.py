"""NVIDIA's formats: SPDM measurement reports of GPUs and NVSwitches, and the reference manifests that NVIDIA signs.

Facts are from DMTF DSP0274 1.1 (SPDM), DSP0275 (its measurement block), TCG DICE Attestation Architecture r22, NVIDIA's
"Opaque Data Format", and the sources of NVIDIA's attestation-sdk and nvtrust.
"""
