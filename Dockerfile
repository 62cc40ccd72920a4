# One image for each family of steps, all from this file (docs/images.md): prep, train, train-cuda, embed, index.
# An image holds the base requirements of pyproject.toml and its target's extra, at the versions of requirements.lock, and
# the project. `make images` builds them with a local engine, cloudbuild.yaml with Cloud Build.

# Either may be given by digest: --build-arg PYTHON_IMAGE=python@sha256:...
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm
ARG BEAM_IMAGE=apache/beam_python3.11_sdk:2.77.0

FROM ${BEAM_IMAGE} AS beam

# What installs: it stays behind, the images below get the virtual environment only.
FROM ${PYTHON_IMAGE} AS builder
ENV PATH=/opt/uv/bin:$PATH \
    VIRTUAL_ENV=/opt/venv \
    UV_BUILD_CONSTRAINT=/build/requirements.lock \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_PYTHON_DOWNLOADS=never
WORKDIR /build
COPY pyproject.toml requirements.lock ./
RUN python -m venv /opt/uv && /opt/uv/bin/python -m pip install --no-cache-dir --constraint requirements.lock uv
# With pip: Beam's boot program asks it whether Beam is installed.
RUN python -m venv /opt/venv

FROM builder AS project
COPY README.md LICENSE ./
COPY two_tower two_tower
COPY components components
COPY pipelines pipelines
RUN uv build --wheel --out-dir /wheels

FROM builder AS prep-venv
RUN uv pip install --constraint requirements.lock -r pyproject.toml --extra prep
COPY --from=project /wheels /wheels
RUN uv pip install --no-deps /wheels/*.whl && uv pip check

FROM builder AS train-venv
RUN uv pip install --constraint requirements.lock -r pyproject.toml --extra train
COPY --from=project /wheels /wheels
RUN uv pip install --no-deps /wheels/*.whl && uv pip check

# NVIDIA's libraries come as wheels. They are gigabytes, so pyproject.toml has no extra for them: `make install` would
# fetch them for everybody.
FROM builder AS train-cuda-venv
COPY requirements-cuda.lock ./
RUN uv pip install --constraint requirements.lock --constraint requirements-cuda.lock -r pyproject.toml --extra train "tensorflow[and-cuda]"
COPY --from=project /wheels /wheels
RUN uv pip install --no-deps /wheels/*.whl && uv pip check

FROM builder AS embed-venv
RUN uv pip install --constraint requirements.lock -r pyproject.toml --extra embed
COPY --from=project /wheels /wheels
RUN uv pip install --no-deps /wheels/*.whl && uv pip check

FROM builder AS index-venv
RUN uv pip install --constraint requirements.lock -r pyproject.toml --extra index
COPY --from=project /wheels /wheels
RUN uv pip install --no-deps /wheels/*.whl && uv pip check

# What every image is made of, but for its environment. The user is a number, for clusters that want to see that it is
# not root; it may write to its home folder and to /tmp.
FROM ${PYTHON_IMAGE} AS runtime
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/home/step \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# implicit's wheels want the system's OpenMP library, the one that the slim image lacks.
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
RUN mkdir /home/step && chown 10001:10001 /home/step
WORKDIR /home/step
ARG RUN_AS=10001:10001
USER ${RUN_AS}
# What the command `two-tower` needs is in none: another machine submits.
CMD ["python", "-c", "import two_tower; print(two_tower.__version__)"]
ARG TWO_TOWER_VERSION=unknown
ARG TWO_TOWER_COMMIT=unknown
ENV TWO_TOWER_VERSION=${TWO_TOWER_VERSION} \
    TWO_TOWER_COMMIT=${TWO_TOWER_COMMIT}
ARG SOURCE=unknown
LABEL org.opencontainers.image.version=${TWO_TOWER_VERSION} \
      org.opencontainers.image.revision=${TWO_TOWER_COMMIT} \
      org.opencontainers.image.source=${SOURCE} \
      org.opencontainers.image.licenses=Apache-2.0

# prep and embed are Dataflow's SDK container as well: it starts Beam's boot program with arguments of its own, Kubeflow
# Pipelines and Vertex AI replace the entry point by a step's command. Without the variable, boot would run the workers
# in an environment of its own, which does not see this one.
FROM runtime AS prep
LABEL org.opencontainers.image.title=two-tower-prep
COPY --from=beam /opt/apache/beam /opt/apache/beam
COPY --from=prep-venv /opt/venv /opt/venv
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
ENTRYPOINT ["/opt/apache/beam/boot"]

FROM runtime AS train
LABEL org.opencontainers.image.title=two-tower-train
COPY --from=train-venv /opt/venv /opt/venv
ENV TF_USE_LEGACY_KERAS=1

# The paths are where a node's driver is mounted on GKE and Vertex AI; the variables ask NVIDIA's runtime for it elsewhere.
FROM runtime AS train-cuda
LABEL org.opencontainers.image.title=two-tower-train-cuda
COPY --from=train-cuda-venv /opt/venv /opt/venv
ENV TF_USE_LEGACY_KERAS=1 \
    PATH=/usr/local/nvidia/bin:$PATH \
    LD_LIBRARY_PATH=/usr/local/nvidia/lib:/usr/local/nvidia/lib64 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM runtime AS embed
LABEL org.opencontainers.image.title=two-tower-embed
COPY --from=beam /opt/apache/beam /opt/apache/beam
COPY --from=embed-venv /opt/venv /opt/venv
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1 \
    TF_USE_LEGACY_KERAS=1
ENTRYPOINT ["/opt/apache/beam/boot"]

FROM runtime AS index
LABEL org.opencontainers.image.title=two-tower-index
COPY --from=index-venv /opt/venv /opt/venv
ENV TF_USE_LEGACY_KERAS=1
