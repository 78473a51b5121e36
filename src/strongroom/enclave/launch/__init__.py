"""The launcher: measures an image into the TPM, starts the agent, relays between agent and broker, carries output.

It stands outside. On the process runner whoever controls it also controls the machine; see the threat model.
"""
