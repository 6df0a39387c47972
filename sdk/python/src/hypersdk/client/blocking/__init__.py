# Generated from aio/__init__.py by `python -m hypersdk.client.generate_sync`; change that file instead.
"""Client and its sub-clients, one file a service."""
