import runpy
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

setup(
    name="fairseq-layerdrop",
    version=runpy.run_path(str(HERE / "fairseq_layerdrop/version.py"))["__version__"],
    description="Train a fairseq Transformer once with LayerDrop, prune it to any depth at inference",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["fairseq_layerdrop", "fairseq_layerdrop.*"]),
    package_data={"fairseq_layerdrop": ["py.typed"], "fairseq_layerdrop.reports": ["page.html"]},
    python_requires=">=3.10,<3.13",
    install_requires=[
        # The official release imports on Python <= 3.10 only; fairseq-fixed is fairseq's main branch with the dataclass
        # defaults mended for 3.11 and later.
        'fairseq==0.12.2; python_version < "3.11"',
        'fairseq-fixed==0.12.3.1; python_version >= "3.11"',
        "numpy<2",  # fairseq uses numpy.compat (--sample-break-mode eos, scoring with language models), which 2 lacks
        "pysbd",
        "rouge==0.3.2",  # ELI5's own, of its time: 1.0 counts otherwise
        "rouge-score",
        "sacrebleu>=2.0",
        "sentencepiece",
        "six",  # rouge imports it without saying so
        "torch>=2.6",  # loads checkpoints with its weights-only unpickler unless told otherwise
    ],
    extras_require={
        "ctranslate2": ["ctranslate2>=4.8"],
        "glue": ["scikit-learn", "scipy"],
        "huggingface": ["safetensors", "tokenizers", "transformers>=5"],
        "plot": ["matplotlib"],
        "quickstart": ["matplotlib", "num2words"],
        "tensorboard": ["tensorboardX"],
        "test": [
            "ctranslate2",
            "hypothesis",
            "matplotlib",
            "mypy",
            "num2words",
            "pytest",
            "pytest-xdist",
            "ruff",
            "safetensors",
            "scikit-learn",
            "scipy",
            "tensorboardX",
            "tokenizers",
            "transformers>=5",
        ],
    },
    entry_points={"console_scripts": ["fairseq-layerdrop = fairseq_layerdrop.cli.main:main"]},
    classifiers=["License :: OSI Approved :: MIT License", "Programming Language :: Python :: 3"],
)
