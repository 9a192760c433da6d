"""Packaging of sharedlayers_dist; launch/requirements.txt pins the versions tested together."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="sharedlayers_dist",
    version="0.1.0",
    description="Train Keras 3 models with shared layers on pair data, alone or with Horovod.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["sharedlayers_dist", "sharedlayers_dist.*"]),
    # Puts an editable install on sys.path: a script beside the clone would import the clone's
    # folder, which has the package's name, before it asked the finder that is installed otherwise.
    package_dir={"": "."},
    package_data={"": ["*.pyi"], "sharedlayers_dist": ["py.typed", "evaluate/*.html"]},
    python_requires=">=3.11,<3.14",
    install_requires=[
        "tensorflow>=2.21,<2.22",
        "keras>=3.15,<3.16",  # dist/gradients and models/graph.py read private names of it.
        "numpy>=1.26,<2.5",
        "pyarrow>=21",  # 16 and 18 fail the tests of data/; null images take 26.
        "ml_dtypes>=0.5",
        "lazy_loader>=0.5",
        "safetensors>=0.5",
        "cyclopts>=5.4",  # The lowest that was tried; it names the type of an option in the help.
        "tensorboard>=2.19",
        "tqdm>=4.66",
        "scikit-learn>=1.4",
        "matplotlib>=3.8",
        "pillow>=10",
        "jinja2>=3.1",
    ],
    extras_require={
        "horovod": ["horovod==0.28.1"],
        # What building Horovod's source package takes; CMake 4 refuses its files.
        "horovod-build": [
            "cffi",
            "cloudpickle",
            "cmake>=3.13,<4",
            "ninja",
            "packaging",
            "psutil",
            "pyyaml",
            "setuptools<81",
            "wheel",
        ],
        "ray": ["ray[default,train,tune]>=2.60,<2.61"],
        # For the callbacks in docs/examples/; the lowest that were tried.
        "mlflow": ["mlflow>=3.17"],
        "wandb": ["wandb>=0.31"],
        "trackio": ["trackio>=0.43"],
        "dev": [
            "hypothesis>=6.170",
            "kubernetes-validate>=1.37",
            "moto[s3,server]>=5.2.5",  # 5.2.0 fails on uploads in several parts.
            "mypy>=2.4",
            "pre-commit>=4",
            "psutil>=7",
            "pytest>=9",
            "pytest-timeout>=2.4",
            "pytest-xdist>=3.8",
            "ruff>=0.17",
            "types-psutil>=7",
            "types-PyYAML>=6",
            "types-tqdm>=4.70",
            "uv>=0.13",
        ],
    },
    entry_points={"console_scripts": ["sharedlayers=sharedlayers_dist.cli:main"]},
)
