"""Packaging of gemproxy; tools are configured in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "gemproxy/__init__.py").read_text())[1]

setup(
    name="gemproxy",
    version=VERSION,
    description="An OpenAI-compatible gateway in front of a pool of Gemini API keys",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    # The plugin folder has no __init__.py, for Twisted's plugin system to merge it with its own.
    packages=[*find_packages(include=["gemproxy", "gemproxy.*"]), "twisted.plugins"],
    # With an explicit root an editable install puts this folder on the path, where Twisted
    # looks for plugins; the import hook that setuptools prefers otherwise is invisible to it.
    package_dir={"": "."},
    package_data={
        "gemproxy": ["py.typed"],
        "gemproxy.storage": ["schema/*.sql"],
        "gemproxy.web": ["page/*"],
    },
    install_requires=[
        "twisted[tls]>=24.7",
        "klein>=24.8",
        "httptools>=0.6",
        "treq>=24.9",
        "pyyaml>=6.0",
        "msgspec>=0.19",
        "prometheus-client>=0.21",
        "service-identity>=24.1",
        "tzdata>=2024.1",
        "tabulate>=0.9",
    ],
    extras_require={
        "test": [
            "pytest>=8.3",
            "pytest-twisted>=1.14",
            "hypothesis>=6.112",
            "openai>=1.60",
            "trustme>=1.2",
            "jsonschema>=4.23",
            "playwright>=1.49",
            "axe-playwright-python>=0.1.4",
        ],
        "lint": [
            "mypy>=1.13",
            "mypy-zope>=1.0.9",
            "ruff>=0.8",
            "import-linter>=2.1",
            "types-PyYAML",
            "types-tabulate",
        ],
    },
    entry_points={"console_scripts": ["gemproxy = gemproxy.cli:main"]},
    zip_safe=False,
)
