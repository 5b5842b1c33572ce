"""What a tool returned, as JSON a model reads: an object, its size limited, an error in ``error``."""

from __future__ import annotations

import json

from mcp.types import AudioContent, CallToolResult, ContentBlock, EmbeddedResource, ImageContent, TextContent
from mcp.types import TextResourceContents as Text

from openk2.schema import JSON
from openk2.worlds.simulator import encode


def answer(result: CallToolResult, limit: int) -> JSON:
    """The structured content, or the text: read when it is a JSON object, in ``text`` when it is not.

    An answer whose JSON has more than ``limit`` bytes becomes its beginning in ``text``, with ``cut`` saying so. What is no
    text is named by type and size.
    """
    text = "\n".join(_part(part) for part in result.content)
    if result.is_error:
        return _limited({"error": text or "the tool failed without a word"}, limit)
    read = result.structured_content or _object(text)
    # A key of its own called error would read as a failure.
    return _limited(read if read and "error" not in read else {"text": text or encode(read or {})}, limit)


def _part(part: ContentBlock) -> str:
    match part:
        case TextContent():
            return part.text
        case ImageContent() | AudioContent():
            return f"[{part.mime_type}, {len(part.data) * 3 // 4} bytes]"
        case EmbeddedResource():
            inside = part.resource
            return inside.text if isinstance(inside, Text) else f"[{inside.mime_type or 'data'} at {inside.uri}]"
    return f"[{part.uri}]"


def _object(text: str) -> JSON | None:
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def _limited(whole: JSON, limit: int) -> JSON:
    encoded = encode(whole).encode(errors="replace")
    if len(encoded) <= limit:
        return whole
    key = "error" if "error" in whole else "text"
    said = whole[key] if list(whole) == [key] else encoded.decode()
    return {
        key: said.encode(errors="replace")[:limit].decode(errors="ignore"),
        "cut": f"{limit} of {len(encoded)} bytes",
    }
