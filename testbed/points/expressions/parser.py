"""Parses the text of an expression, by recursive descent. The language, from what binds least to what binds most:

    or, and, not
    == != < <= > >= (also a < b < c), in (…), not in (…), is null, is not null
    + and -, * and /, **
    ( ), log(x), log2(x), log10(x), exp(x), sqrt(x), min(x, y, …), max(x, y, …)
    column, `odd column`, 12, 1e9, 7B, "text", 'text', true, false

Words and functions are read in any case; log is the natural logarithm.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from testbed.errors import TableError
from testbed.points.expressions.tree import (
    FUNCTIONS,
    WORDS,
    Arithmetic,
    Call,
    Compare,
    Constant,
    In,
    IsNull,
    Logical,
    Name,
    Node,
    Not,
    fault,
)
from testbed.points.numbers import short
from testbed.units import parse_count

_TOKEN = re.compile(
    r"""(?P<number>(?:[0-9][0-9_]*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[kKmMbBgGtTpP]?(?![\w.]))
    |(?P<name>[^\W\d]\w*)
    |`(?P<quoted>[^`]+)`
    |(?P<text>"[^"]*"|'[^']*')
    |(?P<sign>\*\*|==|!=|<=|>=|<>|&&|\|\||[-+*/()\[\],<>=&|!^])""",
    re.VERBOSE,
)
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_INSTEAD = {"=": "==", "&": "and", "&&": "and", "|": "or", "||": "or", "!": "not", "<>": "!=", "^": "**"}
_DEEPEST = 40  # parentheses in parentheses: far below what would exhaust Python's stack
_VALUE = "a column, a number, a text in quotes, true, false or a parenthesis"


@dataclass(frozen=True)
class _Token:
    kind: str  # number, name, word, text, sign or end
    text: str
    at: int


def parse(text: str, where: str) -> Node:
    """The tree of an expression; `where` is where it stands, for messages.

    Raises:
        TableError: It is not an expression; with the first wrong character, and what would be accepted there.
    """
    return _Parser(text, where).whole()


class _Parser:
    def __init__(self, text: str, where: str) -> None:
        self.text, self.where = text, where
        self.tokens = self._split()
        self.next = 0
        self.depth = 0

    def whole(self) -> Node:
        node = self._or()
        if self.token.kind != "end":
            raise self._unexpected("and, or, a comparison, or the end")
        return node

    @property
    def token(self) -> _Token:
        return self.tokens[self.next]

    def _or(self) -> Node:
        return self._logical("or", self._and)

    def _and(self) -> Node:
        return self._logical("and", self._negation)

    def _logical(self, word: Literal["and", "or"], part: Callable[[], Node]) -> Node:
        at, parts = self.token.at, [part()]
        while self._take(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Logical(word, tuple(parts), at)

    def _negation(self) -> Node:
        at, negated = self.token.at, False
        while self._take("not"):
            negated = not negated
        node = self._comparison()
        return Not(node, at) if negated else node

    def _comparison(self) -> Node:
        at, first = self.token.at, self._sum()
        if self._take("is"):
            negated = self._take("not")
            self._demand("null", "null, as in: is null, is not null")
            return Not(IsNull(first, at), at) if negated else IsNull(first, at)
        negated = self._take("not")
        if negated or self._is("in"):
            self._demand("in", "in, as in: not in (1, 2)")
            inside = In(first, self._values(), at)
            return Not(inside, at) if negated else inside
        rest = []
        while sign := self._take_any(_COMPARISONS):
            rest.append((sign, self._sum()))
        return Compare(first, tuple(rest), at) if rest else first

    def _sum(self) -> Node:
        return self._chain(("+", "-"), self._product)

    def _product(self) -> Node:
        return self._chain(("*", "/"), self._signed)

    def _chain(self, signs: tuple[str, ...], part: Callable[[], Node]) -> Node:
        at, first, rest = self.token.at, part(), []
        while sign := self._take_any(signs):
            rest.append((sign, part()))
        return Arithmetic(first, tuple(rest), at) if rest else first

    def _signed(self) -> Node:
        at, negative = self.token.at, False
        while sign := self._take_any(("+", "-")):
            negative ^= sign == "-"
        node = self._power()
        return Arithmetic(Constant(0, at), (("-", node),), at) if negative else node

    def _power(self) -> Node:
        at, base = self.token.at, self._atom()
        if not self._take("**"):
            return base
        self._deeper()
        exponent = self._signed()
        self.depth -= 1
        return Arithmetic(base, (("**", exponent),), at)

    def _atom(self) -> Node:
        token = self.token
        if self._take("("):
            self._deeper()
            node = self._or()
            self._demand(")", "a closing parenthesis")
            self.depth -= 1
            return node
        if token.kind == "name":
            self.next += 1
            called = self._is("(") and self.text[token.at] != "`"
            return self._call(token) if called and token.text.lower() in FUNCTIONS else Name(token.text, token.at)
        return self._constant(_VALUE)

    def _call(self, token: _Token) -> Node:
        name = token.text.lower()
        self._demand("(", "an opening parenthesis")
        self._deeper()
        parts = [self._sum()]
        several = FUNCTIONS[name] > 1
        while several and self._take(","):
            parts.append(self._sum())
        self._demand(")", "a comma or a closing parenthesis" if several else "a closing parenthesis")
        self.depth -= 1
        if len(parts) < FUNCTIONS[name]:
            raise self._fault(token.at, f"found {name} of one value; accepted: {name}(x, y, …), row by row")
        return Call(name, tuple(parts), token.at)

    def _values(self) -> tuple[Constant, ...]:
        opening = self._take_any(("(", "["))
        if not opening:
            raise self._unexpected("a list, such as (1, 2) or ['a', 'b']")
        closing = {"(": ")", "[": "]"}[opening]
        values = [self._signed_constant()]
        while self._take(","):
            if not self._is(closing):
                values.append(self._signed_constant())
        self._demand(closing, f"a comma or {closing}")
        return tuple(values)

    def _signed_constant(self) -> Constant:
        sign = self._take_any(("+", "-"))
        constant = self._constant("a number, a text in quotes, true or false")
        if not sign:
            return constant
        if isinstance(constant.value, (bool, str)):
            raise self._fault(constant.at, f"found {constant.value!r} after {sign}; accepted: a number")
        return Constant(-constant.value, constant.at) if sign == "-" else constant

    def _constant(self, accepted: str) -> Constant:
        token = self.token
        if token.kind == "number":
            value: int | float | str | bool = self._number(token)
        elif token.kind == "text":
            value = token.text
        elif self._is("true") or self._is("false"):
            value = token.text == "true"
        elif self._is("null"):
            raise self._fault(token.at, "found null; write COLUMN is null, or COLUMN is not null")
        else:
            raise self._unexpected(accepted)
        self.next += 1
        return Constant(value, token.at)

    def _number(self, token: _Token) -> int | float:
        text = token.text.replace("_", "")
        try:
            value = float(parse_count(text)) if text[-1].isalpha() else float(text)
        except ValueError as error:
            raise self._fault(token.at, f"found {short(token.text)}; {error}") from None
        if value == float("inf"):
            raise self._fault(token.at, "the number is too large; accepted: up to 1.79e308")
        return int(text.lstrip("0") or "0") if text.isdigit() and value < 2**63 else value

    def _is(self, text: str) -> bool:
        return self.token.kind in ("word", "sign") and self.token.text == text

    def _take(self, text: str) -> bool:
        found = self._is(text)
        self.next += found
        return found

    def _take_any(self, texts: tuple[str, ...]) -> str:
        return next((text for text in texts if self._take(text)), "")

    def _demand(self, text: str, accepted: str) -> None:
        if not self._take(text):
            raise self._unexpected(accepted)

    def _deeper(self) -> None:
        self.depth += 1
        if self.depth > _DEEPEST:
            problem = f"parentheses nested deeper than {_DEEPEST}; write the expression flatter"
            raise self._fault(self.token.at, problem)

    def _unexpected(self, accepted: str) -> TableError:
        token = self.token
        found = "the end" if token.kind == "end" else repr(short(token.text))
        hint = f" (write {_INSTEAD[token.text]})" if token.kind == "sign" and token.text in _INSTEAD else ""
        if self._is("(") and self.next and self.tokens[self.next - 1].kind == "name":
            hint = f" ({short(self.tokens[self.next - 1].text)} is no function; there are {', '.join(FUNCTIONS)})"
        return self._fault(token.at, f"found {found}{hint}; accepted: {accepted}")

    def _fault(self, at: int, problem: str) -> TableError:
        return fault(self.text, at, self.where, problem)

    def _split(self) -> list[_Token]:
        tokens: list[_Token] = []
        at = 0
        while True:
            while at < len(self.text) and self.text[at].isspace():
                at += 1
            if at == len(self.text):
                return [*tokens, _Token("end", "", at)]
            match = _TOKEN.match(self.text, at)
            if match is None:
                raise self._fault(at, _no_token(self.text[at:]))
            tokens.append(_token(match))
            at = match.end()


def _no_token(text: str) -> str:
    if text[0] in "\"'`":
        return f"found {text[0]} without another {text[0]} that closes it"
    word = re.findall(r"[\w.]+|.", text[:40], re.DOTALL)[0]
    return f"found {word!r}; accepted: {_VALUE}"


def _token(match: re.Match[str]) -> _Token:
    kind, text = str(match.lastgroup), match[0]
    if kind == "name" and text.lower() in WORDS:
        return _Token("word", text.lower(), match.start())
    if kind in ("text", "quoted"):
        return _Token("name" if kind == "quoted" else "text", text[1:-1], match.start())
    return _Token(kind, text, match.start())
