#!/usr/bin/env python3
"""Packages helm/forge with helm from the PATH or the package registry.

Usage: package_chart.py FOLDER
"""

import shutil
import sys
from pathlib import Path

from tools import ROOT, kubernetes_tools, run


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    helm = shutil.which("helm") or kubernetes_tools()[0]
    print(run(helm, "package", ROOT / "helm/forge", "--destination", folder).strip())


if __name__ == "__main__":
    main()
