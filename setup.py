"""What setuptools cannot read from pyproject.toml: where Twisted's plugin is."""

from setuptools import find_packages, setup

setup(
    # The plugin folder has no __init__.py, for Twisted's plugin system to merge it with its own.
    packages=[*find_packages(include=["gemproxy", "gemproxy.*"]), "twisted.plugins"],
    # With an explicit root an editable install puts this folder on the path, where Twisted
    # looks for plugins; the import hook that setuptools prefers otherwise is invisible to it.
    package_dir={"": "."},
    package_data={
        "gemproxy": ["py.typed"],
        "gemproxy.state.sqlite": ["schema/*.sql"],
        "gemproxy.admin": ["page/*", "page/vendor/*"],
        "gemproxy.pricing": ["prices.yaml"],
    },
    zip_safe=False,
)
