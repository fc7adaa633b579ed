"""An answer that the tests' Kaggle gives instead of doing what it is asked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Answer:
    """Answers with this instead. `{authorization}` in the message becomes the header that the request came with."""

    status: int
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    shape: str = "error"  # Kaggle has two: {"error": {"code", "message"}} and {"code", "message"}; a proxy sends "html"

    def body(self) -> tuple[str, bytes]:
        if self.shape == "html":
            return "text/html", f"<html><head><title>{self.message}</title></head></html>".encode()
        inner = {"code": self.status, "message": self.message}
        return "application/json", json.dumps({"error": inner} if self.shape == "error" else inner).encode()
