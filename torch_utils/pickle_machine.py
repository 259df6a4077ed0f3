"""A pickle reader that builds plain data and runs nothing.

Python's own unpickler imports and calls whatever the file names. This one interprets the opcodes itself: numbers, text,
bytes and containers are built directly, a name is looked up in the caller's table and nowhere else, and only values of
that table are ever called. There is no import, no attribute access and no ``__setstate__`` of a foreign object. What a
file may cost is bounded by a `Budget` that grows with its size (docs/security.md).
"""

from __future__ import annotations

import io
import pickletools
import sys
from collections.abc import Callable, Mapping
from typing import IO, Any, cast

from dnnlib.errors import UserError

MAX_OPCODES = 1_000_000
MAX_ARGUMENTS = 16
MAX_TEXT_CHARS = 1 << 22
MAX_LINE_BYTES = 1 << 16
MAX_NAME_CHARS = 100
MAX_KEY_CHARS = 4096
MAX_INTEGER_BITS = 128

BASE_MEMORY_BYTES = 10 << 20
MEMORY_PER_FILE_BYTE = 4
"""Memory that a file may take while it is read. Text, bytes and an array or storage made of them are three copies."""

_LITERALS = frozenset({
    "INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT",
    "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
})  # fmt: skip

_OPCODE_BYTES = 32
_COSTLY_OPCODE_BYTES = {
    "EMPTY_DICT": 80, "DICT": 80, "EMPTY_SET": 240, "FROZENSET": 240, "EMPTY_LIST": 80, "LIST": 80, "MARK": 80,
    "TUPLE": 64, "TUPLE1": 48, "TUPLE2": 56, "TUPLE3": 64, "SETITEM": 100, "SETITEMS": 100, "ADDITEMS": 100,
    "MEMOIZE": 120, "PUT": 120, "BINPUT": 120, "LONG_BINPUT": 120, "REDUCE": 1000, "NEWOBJ": 1000, "BINPERSID": 200,
    "GLOBAL": 400, "STACK_GLOBAL": 400,
}  # fmt: skip
"""Upper bounds of the memory that an opcode takes in CPython, not counting its argument: objects, container slots."""


class RefusedPickleError(UserError):
    """A pickle that asks for more than plain data and the names of the table."""


class Budget:
    """What a file may cost: opcodes, memory, and copies of its data; shared by all pickles inside it.

    Args:
        file_bytes: Size of the file.
    """

    def __init__(self, file_bytes: int) -> None:
        self._opcodes_left = self._max_opcodes = MAX_OPCODES
        self._memory_left = BASE_MEMORY_BYTES + MEMORY_PER_FILE_BYTE * file_bytes
        self._data_left = file_bytes

    def spend_opcode(self) -> None:
        """Count one opcode."""
        self._opcodes_left -= 1
        if self._opcodes_left < 0:
            raise RefusedPickleError(f"more than {self._max_opcodes} pickle opcodes")

    def spend_memory(self, num_bytes: int) -> None:
        """Count memory that is about to be taken."""
        self._memory_left -= num_bytes
        if self._memory_left < 0:
            raise RefusedPickleError("the file asks for more memory than its size allows")

    def spend_data(self, num_bytes: int) -> None:
        """Count bytes of the file that are copied: what it holds once, it may ask for once."""
        self._data_left -= num_bytes
        if self._data_left < 0:
            raise RefusedPickleError("the file asks for more data than it holds")
        self.spend_memory(num_bytes)


class Record:
    """An inert stand-in for a pickled object that is filled in after it was made."""

    def set_state(self, state: Any) -> None:
        """Take over the untrusted state in the pickle, or raise ``ValueError``."""
        raise NotImplementedError


class Unknown(Record):
    """A placeholder for a name that is not in the table, and for the result of calling it.

    Attributes:
        name: The name, at most `MAX_NAME_CHARS` characters of untrusted text.
    """

    def __init__(self, name: str) -> None:
        self.name = name[:MAX_NAME_CHARS]

    def set_state(self, state: Any) -> None:
        """Forget the state."""


class PersistentId:
    """The reference to something outside the pickle that ``persistent_load`` would resolve."""

    def __init__(self, value: Any) -> None:
        self.value = value


class LongText:
    """Text of more than `MAX_TEXT_CHARS`, which is good only for the bytes that it encodes (protocols 0 to 2)."""

    def __init__(self, value: str) -> None:
        self.value = value


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
        """Return the bytes up to the next newline, or `MAX_LINE_BYTES` of them."""
        line = self._file.readline(MAX_LINE_BYTES)
        self.remaining -= len(line)
        return line


def read_pickle(
    reader: BoundedReader, allowed: Mapping[str, Any], budget: Budget | None = None, keep_unknown: bool = False
) -> Any:
    """Read one pickle.

    Args:
        reader: Positioned at the start of the pickle, and at its end afterwards.
        allowed: The values of dotted global names. Functions among them are called with the arguments in the file,
            which they must validate, raising ``ValueError``; what they allocate they take from the budget.
        budget: What the file has left. Default: a new one for what the reader has left.
        keep_unknown: Give an `Unknown` for a name that is not allowed and for calls of it or with it, instead of an
            error. Entries of dicts and sets whose key is not text are left out then.

    Returns:
        Numbers, text, bytes, lists, tuples, dicts with text keys (bytes become text), sets of text, and what
        ``allowed`` gives. It may be nested deeply, shared or cyclic: code that walks it sets its own limits.

    Raises:
        RefusedPickleError: The file uses a name, an opcode or a size that is not allowed.
        UserError: The file is truncated or malformed.
    """
    machine = _Machine(allowed, budget or Budget(reader.remaining), keep_unknown)
    try:
        for opcode, argument, _ in pickletools.genops(cast(IO[bytes], reader)):
            machine.execute(opcode.name, argument)
        return machine.result()
    except (UserError, MemoryError):
        raise
    except Exception as error:  # broken bytes make almost anything happen
        raise UserError(f"the pickle is malformed ({type(error).__name__}: {str(error)[:150]!a})") from error


class _Machine:
    """The stack, the stacks saved at each mark, and the memo of one pickle."""

    def __init__(self, allowed: Mapping[str, Any], budget: Budget, keep_unknown: bool) -> None:
        self._allowed = allowed
        self._budget = budget
        self._keep_unknown = keep_unknown
        self._stack: list[Any] = []
        self._below_marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        (value,) = self._stack
        if isinstance(value, LongText):
            raise _too_long(value)
        return value

    def execute(self, name: str, argument: Any) -> None:
        """Carry out one opcode on the stack and the memo."""
        self._budget.spend_opcode()
        argument_bytes = 0 if argument is None else sys.getsizeof(argument)
        self._budget.spend_memory(argument_bytes + _COSTLY_OPCODE_BYTES.get(name, _OPCODE_BYTES))
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
                self._replace_mark(self._pairs)
            case "EMPTY_SET":
                self._stack.append(set())
            case "FROZENSET":
                self._replace_mark(lambda items: frozenset(self._keys(items)))
            case _:
                self._fill_container(name, argument)

    def _fill_container(self, name: str, argument: Any) -> None:
        match name:
            case "APPEND":
                self._fill(list, list.extend, self._pop(1))
            case "APPENDS":
                self._fill(list, list.extend, self._pop_to_mark())
            case "SETITEM":
                self._fill(dict, dict.update, self._pairs(self._pop(2)))
            case "SETITEMS":
                self._fill(dict, dict.update, self._pairs(self._pop_to_mark()))
            case "ADDITEMS":
                self._fill(set, set.update, self._keys(self._pop_to_mark()))
            case _:
                self._build_object(name, argument)

    def _build_object(self, name: str, argument: Any) -> None:
        match name:
            case "GLOBAL":
                self._stack.append(self._resolve(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                module_name, attribute = self._pop(2)
                if not (type(module_name) is type(attribute) is str):
                    raise RefusedPickleError("a global whose name is not text")
                self._stack.append(self._resolve(f"{module_name[:MAX_NAME_CHARS]}.{attribute[:MAX_NAME_CHARS]}"))
            case "REDUCE" | "NEWOBJ":
                self._stack.append(self._call(name, *self._pop(2)))
            case "NEWOBJ_EX" if len(self._stack) >= 3 and isinstance(self._stack[-3], Unknown):
                self._pop(2)
            case "BUILD":
                self._set_state(*self._pop(1))
            case "BINPERSID":
                self._stack.append(PersistentId(*self._pop(1)))
            case _:
                raise RefusedPickleError(f"pickle opcode {name} is not allowed")

    def _resolve(self, name: str) -> Any:
        if name in self._allowed:
            return self._allowed[name]
        if self._keep_unknown:
            return Unknown(name)
        raise RefusedPickleError(f"global {name[:MAX_NAME_CHARS]!a} is not allowed")

    def _call(self, opcode: str, function: Any, arguments: Any) -> Any:
        if isinstance(function, Unknown):
            return function
        if not callable(function):
            raise RefusedPickleError(f"{opcode} of something that is not a function")
        if type(arguments) is not tuple or len(arguments) > MAX_ARGUMENTS:
            raise RefusedPickleError(f"{opcode} with more than {MAX_ARGUMENTS} arguments, or not a tuple of them")
        unknown = _unknown_among(arguments)
        return function(*arguments) if unknown is None else unknown

    def _set_state(self, state: Any) -> None:
        """Fill the object on top of the stack; what is unknown takes nothing, nor does what would be filled with it."""
        record = self._top(Record, dict if self._keep_unknown else Record)
        is_unknown = type(state) is tuple and len(state) <= MAX_ARGUMENTS and _unknown_among(state) is not None
        if isinstance(record, Record) and not is_unknown:
            record.set_state(state)

    def _fill(self, kind: type, add: Any, items: Any) -> None:
        """Add items to the container on top of the stack."""
        container = self._top(kind, Unknown)
        if not isinstance(container, Unknown):
            add(container, items)

    def _top(self, *kinds: type) -> Any:
        if not isinstance(self._stack[-1], kinds):
            raise RefusedPickleError(f"a {kinds[0].__name__} operation on a {type(self._stack[-1]).__name__}")
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

    def _replace_mark(self, build: Callable[[list[Any]], Any]) -> None:
        items = self._pop_to_mark()  # which sets another stack
        self._stack.append(build(items))

    def _pairs(self, items: list[Any]) -> dict[str, Any]:
        pairs = zip(items[::2], items[1::2], strict=True)
        return {self._text_key(key): value for key, value in pairs if self._is_key(key)}

    def _keys(self, items: list[Any]) -> list[str]:
        return [self._text_key(key) for key in items if self._is_key(key)]

    def _is_key(self, key: Any) -> bool:
        # Text only: hashing a deeply nested tuple would overflow the C stack, and integers can be made to collide.
        if type(key) is not str and type(key) is not bytes and not self._keep_unknown:
            raise RefusedPickleError(f"a key of type {type(key).__name__}, only text is allowed")
        return type(key) is str or type(key) is bytes

    def _text_key(self, key: str | bytes) -> str:
        if len(key) > MAX_KEY_CHARS:  # Equal keys are compared character by character.
            raise RefusedPickleError(f"a key of {len(key)} characters, at most {MAX_KEY_CHARS} are allowed")
        if isinstance(key, str):
            return key
        text = key.decode("latin1")  # a copy each time, although the pickle may hold the bytes once
        self._budget.spend_memory(sys.getsizeof(text))
        return text


def _unknown_among(values: tuple[Any, ...]) -> Unknown | None:
    return next((value for value in values if isinstance(value, Unknown)), None)


def _checked_literal(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_TEXT_CHARS:
        return LongText(value)
    if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
        raise RefusedPickleError(f"an integer of {value.bit_length()} bits, at most {MAX_INTEGER_BITS} are allowed")
    return value


def _too_long(text: LongText) -> RefusedPickleError:
    return RefusedPickleError(f"a string of {len(text.value)} characters, at most {MAX_TEXT_CHARS} are allowed")
