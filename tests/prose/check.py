#!/usr/bin/env python3
"""Checks the text of the repository: the width of comments and Markdown, the length of sentences,
links, and paths.

Usage: check.py width | links | self-test

width      comment lines and Markdown lines have at most 100 columns, and sentences of the documents
           in SHORT_SENTENCES at most 30 words. Tables, code blocks and targets of links are exempt.
links      every relative link of a Markdown file leads to a file and, with a fragment, to a heading
           of it. Every page of docs is in docs/SUMMARY.md. Every path and every test that a document
           names in backticks exists.
self-test  the checks detect the faults that they are made for.

Exits with 1 and one line for each fault, `path:line: fault`.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = 100
WORDS = 30
SHORT_SENTENCES = ["docs/operations.md", "docs/security.md"]
# How a comment line begins, by the end of the file's name.
COMMENTS = {
    (".rs", ".wgsl"): "//",
    (".py", ".sh", ".toml", ".yaml", ".yml", ".conf", "Makefile", "Dockerfile", "ci/run"): "#",
}
# Folders whose names begin paths of the repository.
FOLDERS = ["benches", "cli", "crates", "deploy", "docs", "examples", "fuzz", "helm", "python", "schemas", "services", "tests"]


def tracked_files():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def comment_prefix(name):
    return next((prefix for endings, prefix in COMMENTS.items() if name.endswith(endings)), None)


def markdown_lines(text):
    """Number and text of each line outside of code blocks."""
    fence = None
    for number, line in enumerate(text.splitlines(), 1):
        opening = re.match(r"\s*(```+|~~~+)", line)
        if opening and fence is None:
            fence = opening[1]
        elif opening and opening[1].startswith(fence):
            fence = None
        elif fence is None:
            yield number, line


def width_without_links(line):
    """Columns of a line without the targets of its links and without bare addresses."""
    line = re.sub(r"\]\([^)]*\)", "]", line)
    return len(re.sub(r"<?https?://\S+", "", line))


def wide_lines(name, text):
    if name.endswith(".md"):
        lines = ((number, line) for number, line in markdown_lines(text)
                 if not line.lstrip().startswith("|") and not line.startswith("    "))
    elif prefix := comment_prefix(name):
        lines = ((number, line) for number, line in enumerate(text.splitlines(), 1)
                 if line.lstrip().startswith(prefix) and not re.match(r"\s*//[/!]? *\|", line))
    else:
        return
    for number, line in lines:
        width = width_without_links(line)
        if width > COLUMNS:
            yield f"{name}:{number}: {width} columns, more than {COLUMNS}"


def blocks(text):
    """Line number and text of each paragraph, list item, heading and table cell."""
    number, block = 0, []

    def flush():
        joined = " ".join(block)
        block.clear()
        return [(number, joined)] if joined else []

    for at, line in markdown_lines(text):
        bare = line.strip()
        if bare.startswith("|"):
            yield from flush()
            yield from ((at, cell.strip()) for cell in bare.strip("|").split("|"))
            continue
        if not bare or bare.startswith("#") or re.match(r"([-*]|\d+\.) ", bare):
            yield from flush()
        if bare:
            if not block:
                number = at
            block.append(re.sub(r"^(#+|[-*]|\d+\.) ", "", bare))
    yield from flush()


def sentences(block):
    block = re.sub(r"`[^`]*`", "Code", block)
    block = re.sub(r"\]\([^)]*\)", "]", block)
    return re.split(r"(?<=[.!?])[)*_\"]*\s+(?=[A-Z0-9\[`*\"(])", block)


def long_sentences(name, text):
    for number, block in blocks(text):
        for sentence in sentences(block):
            words = len(re.findall(r"[\w'’\-./%]*\w[\w'’\-./%]*", sentence))
            if words > WORDS:
                yield f"{name}:{number}: a sentence of {words} words, more than {WORDS}: {sentence[:60]}…"


def anchor(heading):
    """The fragment of a heading, as GitHub and mdBook make it."""
    heading = re.sub(r"\]\([^)]*\)", "]", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")


def anchors(text):
    headings = (re.match(r"#+ (.*)", line) for _, line in markdown_lines(text))
    return {anchor(heading[1]) for heading in headings if heading}


def broken_links(name, text):
    folder = (ROOT / name).parent
    for number, line in markdown_lines(text):
        line = re.sub(r"`[^`]*`", "", line) if "](" not in line else line
        for target in re.findall(r"\]\(([^)\s]+)\)", line):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, fragment = target.partition("#")
            file = folder / path
            if not file.exists():
                yield f"{name}:{number}: the link {target} leads nowhere"
            elif fragment and (not path or path.endswith(".md")) and fragment not in anchors(file.read_text() if path else text):
                yield f"{name}:{number}: {path or name} has no heading #{fragment}"


def missing_paths(name, text):
    """Paths in backticks that begin with a folder of the repository and do not exist."""
    if name == "CHANGELOG.md":
        return
    for number, line in markdown_lines(text):
        for path in re.findall(r"`([\w./-]+)`", line):
            first = path.split("/")[0]
            if "/" in path and first in FOLDERS and not (ROOT / path).exists():
                yield f"{name}:{number}: there is no {path}"


def named_functions(name, text):
    """Line, module (or None) and name of each test that a document names in backticks."""
    for number, line in markdown_lines(text):
        for module, function in re.findall(r"`(?:\w+::)*(\w+)::([a-z][a-z0-9]*(?:_[a-z0-9]+){2,})`", line):
            yield number, module, function
        if name == "docs/security.md" and line.startswith("|"):
            for function in re.findall(r"`([a-z][a-z0-9]*(?:_[a-z0-9]+){3,})`", line):
                yield number, None, function


def defining_files(files):
    """The files that define each function, by its name: Rust, and the attacks in Python."""
    definitions = {}
    for name in files:
        keyword = "fn" if name.endswith(".rs") else "def" if name.startswith("tests/attacks/") else None
        if keyword:
            for function in re.findall(rf"\b{keyword} ([a-z]\w*)", (ROOT / name).read_text()):
                definitions.setdefault(function, set()).add(name)
    return definitions


def missing_tests(name, text, definitions):
    """Tests named in a document that no file defines, or that another module defines."""
    for number, module, function in named_functions(name, text):
        files = definitions.get(function, set())
        if not files:
            yield f"{name}:{number}: there is no test {function}"
        elif module and not any(module in Path(file).with_suffix("").parts for file in files):
            yield f"{name}:{number}: {function} is not in a module {module}"


def pages_outside_the_book(files):
    pages = [name for name in files if name.startswith("docs/") and name.endswith(".md")]
    summary = ROOT / "docs/SUMMARY.md"
    if not summary.exists():
        return
    listed = set(re.findall(r"\]\(([^)]+)\)", summary.read_text()))
    for name in pages:
        if name != "docs/SUMMARY.md" and name.removeprefix("docs/") not in listed:
            yield f"docs/SUMMARY.md:1: {name} is not in it"


def width_faults():
    for name in tracked_files():
        if not (name.endswith(".md") or comment_prefix(name)):
            continue
        text = (ROOT / name).read_text()
        yield from wide_lines(name, text)
        if name in SHORT_SENTENCES:
            yield from long_sentences(name, text)


def link_faults():
    files = tracked_files()
    definitions = defining_files(files)
    for name in files:
        if name.endswith(".md"):
            text = (ROOT / name).read_text()
            yield from broken_links(name, text)
            yield from missing_paths(name, text)
            if name.startswith("docs/") or name == "ARCHITECTURE.md":
                yield from missing_tests(name, text, definitions)
    yield from pages_outside_the_book(files)


def self_test():
    wide = "x" * 101
    assert len(list(wide_lines("a.rs", f"    // {wide}\nlet a = \"{wide}\";\n"))) == 1
    assert len(list(wide_lines("a.md", f"{wide}\n\n| {wide} |\n\n```\n{wide}\n```\n"))) == 1
    assert not list(wide_lines("a.md", f"[a](https://example.org/{wide})\n"))
    long = " ".join(["word"] * 31)
    assert len(list(long_sentences("a.md", f"Short. {long}. Short.\n- {long}\n\n| a | {long} |\n"))) == 3
    assert not list(long_sentences("a.md", f"{' '.join(['word'] * 20)}. {' '.join(['Word'] * 20)}.\n"))
    text = "# Title one\n\n[a](nowhere.md) [b](#title-one) [c](#title-two) `crates/nowhere` `crates`\n"
    assert len(list(broken_links("README.md", text))) == 2
    assert len(list(missing_paths("README.md", text))) == 1
    definitions = {"one_two_three": {"tests/a/module.rs"}, "one_two_three_four": {"tests/a/b.rs"}}
    text = "`module::one_two_three` `other::one_two_three` `module::one_two_four`\n| `one_two_three_four` | `a_b_c_d` |\n"
    assert len(list(missing_tests("docs/security.md", text, definitions))) == 3
    assert len(list(missing_tests("docs/other.md", text, definitions))) == 2


def main():
    checks = {"width": width_faults, "links": link_faults}
    if sys.argv[1:] == ["self-test"]:
        self_test()
        return
    if len(sys.argv) != 2 or sys.argv[1] not in checks:
        sys.exit(__doc__)
    faults = list(checks[sys.argv[1]]())
    print("\n".join(faults), end="\n" if faults else "")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
