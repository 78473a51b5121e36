"""Files of evidence as other tools write them: each module knows one maker's forms and turns them into items.

Nothing here is believed. A container is bounded, parsed and taken apart; the verifiers judge what was in it.
"""
