"""JSON taken apart value by value: what is built in memory does not grow with the length of the text."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

MAX_VALUE_CHARS = 4 << 20
"""Longest value that is built as a whole. Python's objects take up to 30 times their text."""

_CHUNK_BYTES = 1 << 18

_LOOK_AHEAD = 3
"""Characters that must follow a value at the end of what is decoded: it could be a number that goes on, as ``1e+9``."""

_SPACE = re.compile(r"[ \t\n\r]*")
_scan = json.JSONDecoder().raw_decode


class JsonStream:
    """Reads a JSON text from front to back. Every method raises a `ValueError` where it is not what the method takes.

    Args:
        data: The text in UTF-8, UTF-16 or UTF-32.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._decoder = codecs.getincrementaldecoder(json.detect_encoding(data))("surrogatepass")
        self._num_decoded_bytes = 0
        self._text = ""
        self._at = 0
        self._num_dropped_chars = 0

    def next_char(self) -> str:
        """Return the first character of what comes next; empty at the end of the text."""
        char = self._text[self._at : self._at + 1]
        if char > " ":  # nearly always
            return char
        while True:
            match = _SPACE.match(self._text, self._at)
            assert match is not None
            self._at = match.end()
            if self._at < len(self._text) or not self._has_more():
                return self._text[self._at : self._at + 1]
            self._decode_more()

    def object_keys(self) -> Iterator[str]:
        """Yield the keys of an object; the value of each must be taken before the next key."""
        self._take("{")
        if self.next_char() == "}":
            self._at += 1
            return
        while True:
            if self.next_char() != '"':
                raise self._problem("a key in double quotes is missing")
            key: str = self.value()
            self._take(":")
            yield key
            if self._take(",}") == "}":
                return

    def items(self) -> Iterator[Any]:
        """Yield the items of an array."""
        self._take("[")
        if self.next_char() == "]":
            self._at += 1
            return
        while True:
            yield self.value()
            if self._take(",]") == "]":
                return

    def value(self) -> Any:
        """Take a value of at most `MAX_VALUE_CHARS`."""
        self.next_char()
        while True:
            problem, value, end = "", None, 0
            try:
                value, end = _scan(self._text, self._at)
            except json.JSONDecodeError as err:
                problem = err.msg
            if not problem and (end + _LOOK_AHEAD <= len(self._text) or not self._has_more()):
                self._at = end
                return value
            if not self._has_more():
                raise self._problem(problem)
            if len(self._text) - self._at > MAX_VALUE_CHARS:
                raise self._problem(f"{problem or 'it goes on'} within {MAX_VALUE_CHARS} characters")
            self._decode_more()

    def skip(self) -> None:
        """Take a value without building more than one of its items at a time."""
        first = self.next_char()
        if first == "[":
            for _ in self.items():
                pass
        elif first == "{":
            for _ in self.object_keys():
                self.value()
        else:
            self.value()

    def end(self) -> None:
        """Check that nothing follows."""
        if self.next_char():
            raise self._problem("something follows the end")

    def _take(self, allowed: str) -> str:
        char = self.next_char()
        if not char or char not in allowed:
            raise self._problem(" or ".join(map(repr, allowed)) + " is missing")
        self._at += 1
        return char

    def _has_more(self) -> bool:
        return self._num_decoded_bytes < len(self._data)

    def _decode_more(self) -> None:
        """Decode as much again as is left over, so that a long value is not scanned many times."""
        begin = self._num_decoded_bytes
        num_bytes = max(_CHUNK_BYTES, len(self._text) - self._at)
        self._num_decoded_bytes = min(begin + num_bytes, len(self._data))
        chunk = self._decoder.decode(self._data[begin : self._num_decoded_bytes], final=not self._has_more())
        self._num_dropped_chars += self._at
        self._text = self._text[self._at :] + chunk
        self._at = 0

    def _problem(self, text: str) -> ValueError:
        return ValueError(f"{text} at character {self._num_dropped_chars + self._at}")
