"""Conformance suites: one per contract in `carbon_nas.interfaces`, for built-in plug-ins and strangers' alike.

Subclass a suite in a pytest module and override its fixtures; every duty then is a test.
"""
