"""Executes the Python snippets of one page in order, as one program: `run_page.py PAGE`.

They share their names, as a reader takes it. A snippet may await at its top level; all of a page do so on
one loop, which runs only while such a snippet does. Tracebacks name the page and the line in it.
The environment variable `SNIPPET_ADDRESSES` is a JSON object of texts to put in place of others.
"""

import ast
import asyncio
import inspect
import json
import linecache
import os
import sys
import types
from pathlib import Path

from snippets import find_snippets


def main(page: Path) -> None:
    """Execute the snippets of `page`."""
    text = page.read_text(encoding="utf-8")
    for old, new in json.loads(os.environ.get("SNIPPET_ADDRESSES", "{}")).items():
        text = text.replace(old, new)
    linecache.cache[str(page)] = (len(text), None, text.splitlines(keepends=True), str(page))
    program = types.ModuleType("__main__")
    sys.modules["__main__"] = program  # So that dataclasses, pickle and the like find what is defined.
    loop = asyncio.new_event_loop()
    for snippet in find_snippets(text):
        if snippet.skipped is not None:
            print(f"{page.name}:{snippet.line} not executed: {snippet.skipped}")
            continue
        print(f"{page.name}:{snippet.line}", flush=True)
        padded = "\n" * (snippet.line - 1) + snippet.source
        code = compile(padded, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if code.co_flags & inspect.CO_COROUTINE:
            loop.run_until_complete(eval(code, program.__dict__))
        else:
            exec(code, program.__dict__)
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


main(Path(sys.argv[1]))
