"""What survives a restart, and where it is kept.

``model`` has the state as a value. ``kinds`` describes each kind of row that the state consists of:
its type, what identifies it, its columns, how long it is kept. The stores (``sqlite``, ``json``)
and the merging of two states are written once over these descriptions and know no kind by name.
``fallback`` combines two stores. A new kind of row is one description in ``kinds``, one migration
in ``sqlite/schema`` and a field of the state.

Every call of a store blocks; ``service.checkpoint`` makes them in a thread.
"""
