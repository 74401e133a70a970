"""The configuration: both YAML files, read and checked as a whole, then frozen.

``settings`` is the list of all settings, ``loading`` reads the files, ``changes`` compares two
readings for a reload, ``reference`` renders the documentation from the list.
"""
