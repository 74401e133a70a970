"""Keep the state that survives a restart.

``model`` defines the state as a value. ``kinds`` describes each kind of row in it: its type,
identity, columns and retention. The stores (``sqlite``, ``json``) and the merging of two states are
written once over these descriptions and know no kind by name. ``fallback`` combines two stores.

A new kind of row is one description in ``kinds``, one migration in ``sqlite/schema`` and a field of
the state. A new store is a folder with a class that implements ``fallback.PrimaryStore``
(``core.interfaces.StateStore`` and how to handle a damaged file), and ``fallback.state_store``
chooses it by the configuration.

Every call of a store blocks; ``service.checkpoint`` makes them in a thread.
"""
