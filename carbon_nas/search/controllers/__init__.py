"""Strategies that propose architectures; found by entry point `carbon_nas.controllers`, never by import."""
