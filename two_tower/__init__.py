"""Two-tower retrieval: `import two_tower as tt`, and every name is there when it is first asked for (docs/python.md).

Plain Python; neither kfp nor google.cloud.aiplatform.
"""

import os

from two_tower.extras import attach_door

# TensorFlow reads both when it is imported, which features, index, model and retrievers do on their own.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # TensorFlow Recommenders wants Keras 2
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # below: every machine without a GPU is told so as an error

__getattr__, __dir__, __all__ = attach_door(__name__, __file__)
