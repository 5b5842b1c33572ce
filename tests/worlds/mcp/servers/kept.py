"""A small well-behaved server on the official SDK: over stdio, or over HTTP on a given loopback port."""

import sys

from mcp.server.mcpserver import MCPServer
from mcp.types import TextContent

server = MCPServer("kept", version="1.2.3")
notes: dict[str, str] = {}


@server.tool()
def add(a: int, b: int) -> dict[str, int]:
    """Add two numbers."""
    return {"sum": a + b}


@server.tool()
def keep(name: str, text: str) -> str:
    """Keep a note."""
    notes[name] = text
    return f"kept {name}"


@server.tool()
def read(name: str) -> str:
    """Read a note."""
    return notes[name]


@server.tool(structured_output=False)
def say(text: str) -> TextContent:
    """Say it again."""
    return TextContent(type="text", text=text)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run()
