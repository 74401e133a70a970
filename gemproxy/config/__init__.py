"""What the operator may say: both YAML files, read whole, checked whole, then frozen.

``settings`` is the list of all settings, ``loading`` reads the files, ``changes`` compares two
readings for a reload, ``reference`` renders the documentation from the list.
"""
