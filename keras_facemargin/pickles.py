"""Pickles are read without executing them.

A pickle is a program for a stack machine that may call any function of any module, so a file of
unknown origin must not be loaded. `PickleWalk` interprets the instructions that hold data. A
subclass lists the names that its files may contain and states what each means; nothing is imported
or called. Every other name and instruction is refused.
"""

import codecs
import dataclasses
import pickletools
import struct
import typing
from collections.abc import Callable, Mapping

# A file of data needs far fewer instructions than bytes; more of them would only fill the memory.
_FREE_INSTRUCTIONS, _BYTES_EACH = 1 << 16, 16
_LONGEST_NAME = 100
_LONGEST_NUMBER = 24  # characters
_LONGEST_LINE = 1 << 26
_INSTRUCTIONS = {ord(each.code): each.name for each in pickletools.opcodes}

# Codings of a span: bytes; text in UTF-8 or with Python's escapes (protocol 0); and bytes that such
# a text represents in Latin-1.
RAW, UTF8, ESCAPED, QUOTED, LATIN_UTF8, LATIN_ESCAPED = range(6)
TEXTS = {UTF8: LATIN_UTF8, ESCAPED: LATIN_ESCAPED}


@dataclasses.dataclass(slots=True)
class Span:
    """The place in the file of a string of any kind, which is not read."""

    offset: int
    length: int
    coding: int


@dataclasses.dataclass(slots=True)
class Name:
    """One of the names that a walk knows, by its meaning."""

    meaning: str


def read_span(stream: typing.BinaryIO, span: Span) -> bytes | str:
    """Reads the content of a span: bytes, or text.

    Raises:
        EOFError: the file ends before the span does.
        ValueError: the bytes are not text in the span's encoding.
    """
    stream.seek(span.offset)
    data = stream.read(span.length)
    if len(data) != span.length:
        raise EOFError
    if span.coding == QUOTED:
        return codecs.escape_decode(data)[0]
    if span.coding == RAW:
        return data
    utf8 = span.coding in (UTF8, LATIN_UTF8)
    text = data.decode(*(("utf-8", "surrogatepass") if utf8 else ("raw-unicode-escape",)))
    return text if span.coding in TEXTS else text.encode("latin-1")


class PickleWalk:
    """Walks over the instructions of one pickle; calls nothing and allocates only what it reads.

    Strings stay in the file as `Span`. Subclasses set `names` and `content`, and override `refuse`,
    `make` and `build`.

    Args:
        stream: the open file, at the start of the pickle.
        size: bytes of the file.
    """

    names: typing.ClassVar[Mapping[str, str]] = {}  # "module name" -> its meaning
    content = "data"  # for errors: what the pickle holds

    def __init__(self, stream: typing.BinaryIO, size: int):
        self.stream = stream
        self.size = size
        self.position = stream.tell()
        self._at = self.position  # of the instruction, for errors
        self._stack: list[typing.Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, typing.Any] = {}

    def refuse(self, problem: str) -> Exception:
        """The error for a problem, which names the byte."""
        return ValueError(problem)

    def make(self, meaning: str, arguments: tuple[typing.Any, ...]) -> typing.Any:
        """What a call of a known name makes; None if the name does not take these arguments."""
        return None

    def build(self, target: typing.Any, state: typing.Any) -> bool:
        """Gives an object its state; False if the object does not take this state."""
        return False

    def kind(self, value: typing.Any) -> str:
        """How an error names a value in the file. It never shows the value."""
        kinds = {Span: "a string", Name: "a name", type(None): "nothing"}
        return kinds.get(type(value), f"a {type(value).__name__}")

    def walk(self) -> typing.Any:
        """The object of the pickle: spans, lists, tuples, numbers and what `make` returns."""
        for _ in range(_FREE_INSTRUCTIONS + self.size // _BYTES_EACH):
            self._at = self.position
            code = self.take(1)[0]
            name = _INSTRUCTIONS.get(code)
            if name == "STOP":
                return self._end()
            step: Callable[[], None] | None = getattr(self, f"_{name}", None)
            if step is None:
                what = f"the instruction {name}" if name else f"the byte {code:#04x}"
                raise self.error(f"{what} does not belong in a file of {self.content}")
            step()
        raise self.error("it has too many instructions for its size")

    def error(self, what: str) -> Exception:
        return self.refuse(f"at byte {self._at:,} {what}")

    def _end(self) -> typing.Any:
        if self._marks or len(self._stack) != 1:
            raise self.error("the end comes in the middle")
        return self._stack[0]

    # Reading.

    def take(self, count: int) -> bytes:
        data = self.stream.read(count)
        self.position += len(data)
        if len(data) != count:
            raise self.error("it ends in the middle: the file was cut off")
        return data

    def _number(self, form: str) -> typing.Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def _line(self, longest: int) -> bytes:
        line = self.stream.readline(longest + 1)
        self.position += len(line)
        if not line.endswith(b"\n"):
            cut = self.position == self.size
            raise self.error("it ends in the middle" if cut else "a line is too long")
        return line[:-1]

    def _span(self, length: int, coding: int) -> None:
        start = self.position
        if not 0 <= length <= self.size - start:
            raise self.error(
                f"{length:,} bytes are announced and {self.size - start:,} are left: the file was "
                "cut off, or is damaged"
            )
        self.position += length
        self.stream.seek(self.position)
        self.push_span(Span(start, length, coding))

    def push_span(self, span: Span) -> None:
        self._stack.append(span)

    def text(self, value: typing.Any) -> str:
        """A short string of the file, for names."""
        if isinstance(value, str) and len(value) <= _LONGEST_NAME:
            return value
        if not isinstance(value, Span) or value.length > _LONGEST_NAME:
            raise self.error(f"a short name is expected, not {self.kind(value)}")
        try:
            text = read_span(self.stream, value)
        except (EOFError, ValueError) as error:
            raise self.error(f"a name is not text: {error}") from None
        finally:
            self.stream.seek(self.position)
        return text.decode("latin-1") if isinstance(text, bytes) else text

    # The stack.

    def _push(self, value: typing.Any) -> None:
        self._stack.append(value)

    def _pop(self, count: int) -> list[typing.Any]:
        floor = self._marks[-1] if self._marks else 0
        if len(self._stack) - floor < count:
            raise self.error("a value is needed and the stack is empty")
        taken = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return taken

    def _since_mark(self) -> list[typing.Any]:
        if not self._marks:
            raise self.error("the stack has no mark")
        start = self._marks.pop()
        taken = self._stack[start:]
        del self._stack[start:]
        return taken

    def _extend(self, items: list[typing.Any]) -> None:
        (target,) = self._pop(1)
        if not isinstance(target, list):
            raise self.error(f"something is added to {self.kind(target)}, which is not a list")
        target.extend(items)
        self._stack.append(target)

    # Instructions, by the names that `pickletools` gives them. First those that frame.

    def _PROTO(self) -> None:
        if (version := self._number("<B")) > 5:
            raise self.error(f"protocol {version}; the known ones are 0 to 5")

    def _FRAME(self) -> None:
        self.take(8)  # how much a loader might read ahead

    def _MARK(self) -> None:
        self._marks.append(len(self._stack))

    # Numbers and constants.

    def _NONE(self) -> None:
        self._stack.append(None)

    def _NEWTRUE(self) -> None:
        self._stack.append(True)

    def _NEWFALSE(self) -> None:
        self._stack.append(False)

    def _BININT(self) -> None:
        self._stack.append(self._number("<i"))

    def _BININT1(self) -> None:
        self._stack.append(self._number("<B"))

    def _BININT2(self) -> None:
        self._stack.append(self._number("<H"))

    def _LONG1(self) -> None:
        length = self._number("<B")
        if length > 10:
            raise self.error(f"a number has {length} bytes, and 10 are enough")
        self._stack.append(int.from_bytes(self.take(length), "little", signed=True))

    def _INT(self) -> None:
        line = self._line(_LONGEST_NUMBER)
        self._stack.append({b"00": False, b"01": True}.get(line, self._digits(line)))

    def _LONG(self) -> None:
        self._stack.append(self._digits(self._line(_LONGEST_NUMBER).removesuffix(b"L")))

    def _digits(self, text: bytes) -> int:
        if not text.removeprefix(b"-").isdigit():
            raise self.error(f"a number must be there, not {text!r}")
        return int(text)

    def _BINFLOAT(self) -> None:
        self._stack.append(self._number(">d"))

    def _FLOAT(self) -> None:
        line = self._line(_LONGEST_NUMBER)
        try:
            self._stack.append(float(line))
        except ValueError:
            raise self.error(f"a number must be there, not {line!r}") from None

    # Strings, passed over.

    def _SHORT_BINBYTES(self) -> None:
        self._span(self._number("<B"), RAW)

    def _BINBYTES(self) -> None:
        self._span(self._number("<I"), RAW)

    def _BINBYTES8(self) -> None:
        self._span(self._number("<Q"), RAW)

    _BYTEARRAY8 = _BINBYTES8
    _SHORT_BINSTRING = _SHORT_BINBYTES  # Python 2's

    def _BINSTRING(self) -> None:
        self._span(self._number("<i"), RAW)

    def _SHORT_BINUNICODE(self) -> None:
        self._span(self._number("<B"), UTF8)

    def _BINUNICODE(self) -> None:
        self._span(self._number("<I"), UTF8)

    def _BINUNICODE8(self) -> None:
        self._span(self._number("<Q"), UTF8)

    def _STRING(self) -> None:
        line = self._line(_LONGEST_LINE)
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
            raise self.error("a string must be in quotes")
        self.push_span(Span(self.position - len(line), len(line) - 2, QUOTED))

    def _UNICODE(self) -> None:
        line = self._line(_LONGEST_LINE)
        self.push_span(Span(self.position - len(line) - 1, len(line), ESCAPED))

    # Sequences.

    def _EMPTY_LIST(self) -> None:
        self._stack.append([])

    def _LIST(self) -> None:
        self._stack.append(self._since_mark())

    def _APPEND(self) -> None:
        self._extend(self._pop(1))

    def _APPENDS(self) -> None:
        self._extend(self._since_mark())

    def _EMPTY_TUPLE(self) -> None:
        self._stack.append(())

    def _TUPLE(self) -> None:
        self._stack.append(tuple(self._since_mark()))

    def _TUPLE1(self) -> None:
        self._stack.append(tuple(self._pop(1)))

    def _TUPLE2(self) -> None:
        self._stack.append(tuple(self._pop(2)))

    def _TUPLE3(self) -> None:
        self._stack.append(tuple(self._pop(3)))

    # The memo.

    def _put(self, key: int) -> None:
        self._memo[key] = self._pop(1)[0]
        self._stack.append(self._memo[key])

    def _get(self, key: int) -> None:
        if key not in self._memo:
            raise self.error(f"number {key} is recalled, which was never stored")
        self._stack.append(self._memo[key])

    def _PUT(self) -> None:
        self._put(self._digits(self._line(_LONGEST_NUMBER)))

    def _BINPUT(self) -> None:
        self._put(self._number("<B"))

    def _LONG_BINPUT(self) -> None:
        self._put(self._number("<I"))

    def _MEMOIZE(self) -> None:
        self._put(len(self._memo))

    def _GET(self) -> None:
        self._get(self._digits(self._line(_LONGEST_NUMBER)))

    def _BINGET(self) -> None:
        self._get(self._number("<B"))

    def _LONG_BINGET(self) -> None:
        self._get(self._number("<I"))

    # Names, and calls of those that are known.

    def _GLOBAL(self) -> None:
        module, name = self._line(_LONGEST_NAME), self._line(_LONGEST_NAME)
        self._name(module.decode("latin-1"), name.decode("latin-1"))

    _INST = _GLOBAL  # Python 2's call of a class: its name is refused, or else it has no mark

    def _STACK_GLOBAL(self) -> None:
        module, name = map(self.text, self._pop(2))
        self._name(module, name)

    def _name(self, module: str, name: str) -> None:
        meaning = self.names.get(f"{module} {name}")
        if meaning is None:
            raise self.error(
                f"it would call {module + '.' + name!r}: that is refused, and nothing of the file "
                "was executed. Do not trust a file whose origin you do not know"
            )
        self._stack.append(Name(meaning))

    def _REDUCE(self) -> None:
        name, arguments = self._pop(2)
        made = None
        if isinstance(name, Name) and isinstance(arguments, tuple):
            made = self.make(name.meaning, arguments)
        if made is None:
            meaning = name.meaning if isinstance(name, Name) else self.kind(name)
            few = arguments[:5] if isinstance(arguments, tuple) else ("?",)
            kinds = ", ".join(map(self.kind, few))
            raise self.error(f"{meaning} has arguments that it never takes: {kinds}")
        self._stack.append(made)

    def _BUILD(self) -> None:
        target, state = self._pop(2)
        if not self.build(target, state):
            raise self.error(f"{self.kind(target)} has a state that is not known here")
        self._stack.append(target)
