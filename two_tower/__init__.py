"""The library that the pipeline's steps call: plain Python, no kfp and no google.cloud.aiplatform."""
