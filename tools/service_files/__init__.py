"""Files that list the services, or parts of them, made from the services' manifests.

`docs/decisions/one-manifest-a-service.md` says why, and which.
"""
