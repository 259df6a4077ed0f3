"""A pickle reader that builds plain data and runs nothing.

Python's own unpickler imports and calls whatever the file names. This one interprets the opcodes itself: numbers, text,
bytes and containers are built directly, a name is looked up in the caller's table and nowhere else, and only values of
that table are ever called. There is no import, no attribute access and no ``__setstate__`` of a foreign object.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Mapping
from typing import IO, Any, NamedTuple, cast

from dnnlib.util import UserError

MAX_OPCODES = 1_000_000
MAX_TEXT_CHARS = 1 << 22
MAX_INTEGER_BITS = 128

_LITERALS = frozenset({
    "INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT",
    "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
})  # fmt: skip


class RefusedPickleError(UserError):
    """A pickle that asks for more than plain data and the names of the table."""


class Record:
    """An inert stand-in for a pickled object that is filled in after it was made."""

    def set_state(self, state: Any) -> None:
        """Take over the state in the pickle, which nobody has checked, or raise ``ValueError``."""
        raise NotImplementedError


class PersistentId(NamedTuple):
    """The reference to something outside the pickle that ``persistent_load`` would resolve."""

    value: Any


class BoundedReader:
    """A seekable file whose size is known: reads past the end fail before memory is reserved for them."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        start = file.tell()
        self.remaining = file.seek(0, io.SEEK_END) - start
        file.seek(start)

    def read(self, num_bytes: int) -> bytes:
        """Return exactly ``num_bytes`` bytes; raises ``UserError`` if the file ends before."""
        if num_bytes > self.remaining:
            raise UserError("the file is truncated or not a pickle")
        self.remaining -= num_bytes
        return self._file.read(num_bytes)

    def readline(self) -> bytes:
        """Return the bytes up to the next newline."""
        line = self._file.readline(MAX_TEXT_CHARS)
        self.remaining -= len(line)
        return line


def read_pickle(reader: BoundedReader, allowed: Mapping[str, Any]) -> Any:
    """Read one pickle.

    Args:
        reader: Positioned at the start of the pickle; afterwards right behind it.
        allowed: The values of dotted global names. Functions among them are called with the arguments in the file,
            which they must validate, raising ``ValueError``.

    Returns:
        Numbers, text, bytes, lists, tuples, dicts with text keys, sets of text, and what ``allowed`` gives. It may be
        nested deeply, shared or cyclic: code that walks it sets its own limits.

    Raises:
        RefusedPickleError: The file uses a name, an opcode or a size that is not allowed.
        UserError: The file is truncated or malformed.
    """
    machine = _Machine(allowed)
    try:
        for num_executed, (opcode, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], reader))):
            if num_executed == MAX_OPCODES:
                raise RefusedPickleError(f"more than {MAX_OPCODES} pickle opcodes")
            machine.execute(opcode.name, argument)
        return machine.result()
    except UserError:
        raise
    except Exception as error:  # broken bytes make almost anything happen
        raise UserError(f"the pickle is malformed ({type(error).__name__}: {str(error)[:150]!a})") from error


class _Machine:
    """The stack, the stacks set aside at each mark, and the memo of one pickle."""

    def __init__(self, allowed: Mapping[str, Any]) -> None:
        self._allowed = allowed
        self._stack: list[Any] = []
        self._below_marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        (value,) = self._stack
        return value

    def execute(self, name: str, argument: Any) -> None:
        """Carry out one opcode on the stack and the memo."""
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._stack[-1]
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                self._stack.append(self._memo[argument])
            case "MARK":
                self._below_marks.append(self._stack)
                self._stack = []
            case "POP" if self._stack:
                self._stack.pop()
            case "POP" | "POP_MARK":
                self._pop_to_mark()
            case "DUP":
                self._stack.append(self._stack[-1])
            case _ if name in _LITERALS:
                self._stack.append(_checked_literal(argument))
            case _:
                self._build_container(name, argument)

    def _build_container(self, name: str, argument: Any) -> None:
        match name:
            case "NONE":
                self._stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                self._stack.append(name == "NEWTRUE")
            case "EMPTY_TUPLE":
                self._stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self._stack.append(tuple(self._pop(int(name[-1]))))
            case "TUPLE":
                self._replace_mark(tuple)
            case "EMPTY_LIST":
                self._stack.append([])
            case "LIST":
                self._replace_mark(list)
            case "EMPTY_DICT":
                self._stack.append({})
            case "DICT":
                self._replace_mark(_pairs)
            case "EMPTY_SET":
                self._stack.append(set())
            case "FROZENSET":
                self._replace_mark(lambda items: frozenset(map(_checked_key, items)))
            case _:
                self._fill_container(name, argument)

    def _fill_container(self, name: str, argument: Any) -> None:
        match name:
            case "APPEND":
                items = self._pop(1)
                self._top(list).extend(items)
            case "APPENDS":
                items = self._pop_to_mark()
                self._top(list).extend(items)
            case "SETITEM":
                items = self._pop(2)
                self._top(dict).update(_pairs(items))
            case "SETITEMS":
                items = self._pop_to_mark()
                self._top(dict).update(_pairs(items))
            case "ADDITEMS":
                items = self._pop_to_mark()
                self._top(set).update(map(_checked_key, items))
            case _:
                self._build_object(name, argument)

    def _build_object(self, name: str, argument: Any) -> None:
        match name:
            case "GLOBAL":
                self._stack.append(self._resolve(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                module_name, attribute = self._pop(2)
                self._stack.append(self._resolve(f"{module_name}.{attribute}"))
            case "REDUCE" | "NEWOBJ":
                function, arguments = self._pop(2)
                if not callable(function):
                    raise RefusedPickleError(f"{name} of something that is not a function")
                self._stack.append(function(*arguments))
            case "BUILD":
                (state,) = self._pop(1)
                self._top(Record).set_state(state)
            case "BINPERSID":
                self._stack.append(PersistentId(*self._pop(1)))
            case _:
                raise RefusedPickleError(f"pickle opcode {name} is not allowed")

    def _resolve(self, name: str) -> Any:
        if name not in self._allowed:
            raise RefusedPickleError(f"global {name[:200]!a} is not allowed")
        return self._allowed[name]

    def _top(self, kind: type) -> Any:
        if not isinstance(self._stack[-1], kind):
            raise RefusedPickleError(f"a {kind.__name__} operation on a {type(self._stack[-1]).__name__}")
        return self._stack[-1]

    def _pop(self, num: int) -> list[Any]:
        items = self._stack[-num:]
        if len(items) < num:
            raise UserError("the pickle is malformed (its stack is empty)")
        del self._stack[-num:]
        return items

    def _pop_to_mark(self) -> list[Any]:
        items = self._stack
        self._stack = self._below_marks.pop()
        return items

    def _replace_mark(self, build: Any) -> None:
        items = self._pop_to_mark()
        self._stack.append(build(items))


def _checked_literal(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_TEXT_CHARS:
        raise RefusedPickleError(f"a text of {len(value)} characters, at most {MAX_TEXT_CHARS} are allowed")
    if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
        raise RefusedPickleError(f"an integer of {value.bit_length()} bits, at most {MAX_INTEGER_BITS} are allowed")
    return value


def _checked_key(key: Any) -> str:
    # Text only: hashing a deeply nested tuple would overflow the C stack.
    if type(key) is not str:
        raise RefusedPickleError(f"a key of type {type(key).__name__}, only text is allowed")
    return key


def _pairs(items: list[Any]) -> dict[str, Any]:
    return dict(zip(map(_checked_key, items[::2]), items[1::2], strict=True))
