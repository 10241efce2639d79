"""The page and its files, read once; nothing is built and nothing comes from elsewhere."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from fastapi import APIRouter, HTTPException, Request, Response

_DIRECTORY = Path(__file__).with_name("static")
# Fixed, because some systems' own tables know .js as something that browsers refuse as a module.
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


class _File(NamedTuple):
    content: bytes
    media_type: str
    etag: str


def router() -> APIRouter:
    """Return the endpoints `/` and `/static/…`."""
    routes = APIRouter(include_in_schema=False)
    files = {path.relative_to(_DIRECTORY).as_posix(): _load(path) for path in _DIRECTORY.rglob("*.*")}

    async def index(request: Request) -> Response:
        return _answer(request, files["index.html"])

    async def static(request: Request, name: str) -> Response:
        if name not in files:
            raise HTTPException(404)
        return _answer(request, files[name])

    routes.add_api_route("/", index, methods=["GET"])
    routes.add_api_route("/static/{name:path}", static, methods=["GET"])
    return routes


def _load(path: Path) -> _File:
    content = path.read_bytes()
    return _File(content, _MEDIA_TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:16]}"')


def _answer(request: Request, file: _File) -> Response:
    headers = {"etag": file.etag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
