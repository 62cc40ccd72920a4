"""Moves KFP's mount of Cloud Storage (`/gcs/`) to the folder named in CLOUD_EMPTY_MOUNT, once KFP is imported.

Every Python process of a step loads this file.  The folder is empty, so nothing can be read through a mount, and what
is written there is seen by nobody.
"""

import importlib.abc
import importlib.machinery
import os
import sys

TARGET = "kfp.dsl.types.artifact_types"


class _Loader(importlib.abc.Loader):
    def __init__(self, loader):
        self.loader = loader

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        module._GCS_LOCAL_MOUNT_PREFIX = os.environ["CLOUD_EMPTY_MOUNT"].rstrip("/") + "/"


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != TARGET:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec and spec.loader:
            spec.loader = _Loader(spec.loader)
        return spec


sys.meta_path.insert(0, _Finder())
