"""The docs' and docstrings' formulas, ``x + eta s(x) + sqrt(2 eta T) z``, as MathML, which browsers
typeset by themselves: no script, and nothing from another host."""

from __future__ import annotations

import re
from html import escape
from itertools import pairwise

GREEK = {
    name: f"&{name};"
    for name in (
        *("alpha", "beta", "gamma", "delta", "epsilon", "eta", "theta", "kappa", "lambda", "mu", "nu"),
        *("xi", "pi", "rho", "sigma", "tau", "phi", "psi"),
    )
} | {"eps": "&epsilon;", "lam": "&lambda;"}
OPERATORS = {
    "<-": "&larr;",
    "<": "&lt;",
    ">": "&gt;",
    ">=": "&ge;",
    "<=": "&le;",
    "*": "&middot;",
    "-": "&minus;",
    ".": "&middot;",
    "...": "&hellip;",
    "|": "&#124;",
}
SIGNS = {"sum": "&sum;", "grad": "&nabla;"}
CODE = re.compile(r"[\[\]\"@%]|\*\*|==|->|::|[A-Za-z_]\.\w|\w=\w|\(\)|__|, \.\.\.|\^ ")
NAMED = r"\b(?:sigma|alpha|beta|eta|eps|epsilon|kappa|lam|mu)\b"
FORMULA = re.compile(
    r"\bE\(|\bmean [A-Z(|]|\^|\bsqrt|\bsum_|\bgrad |<-|\|\w[^|]*\||\bexp\(|\bd\w/d\w"
    rf"|[-+/] ?{NAMED}|{NAMED} (?:[a-zA-Z]\b|[-+/] )"
)
TOKEN = re.compile(r"\s*(<-|>=|<=|\.\.\.|[A-Za-z]+(?:_[A-Za-z]+)*\d*~?|\d+(?:\.\d+)?|[-+*/^_|(){}=<>,;.'])")
RELATIONS = ("=", "<-", "<", ">", ">=", "<=")
WORD = re.compile(r"<mi>[a-z]{2,}</mi>|<mtext>|&nabla;")
SPACE = '<mspace width="0.2em"/>'
INDICES = set("bidjkmnv")


class NotAFormula(Exception):
    pass


def typeset(text: str) -> str | None:
    """Returns a formula's MathML, or None for other code."""
    if CODE.search(text) or not FORMULA.search(text):
        return None
    try:
        made = Parser(text).whole()
    except NotAFormula:
        return None
    said = escape(text).replace("|", "&#124;").replace("_", "&#95;").replace("*", "&#42;")
    return f'<span class="formula"><math displaystyle="true" alttext="{said}">{made}</math></span>'


def formula_or(code: str) -> str:
    """Returns inline code, with its backticks, as MathML where it is a formula."""
    made = None if code.startswith("```") else typeset(" ".join(code.strip("`").split()))
    return made or code


def operator(sign: str, attributes: str = "") -> str:
    return f"<mo{attributes}>{OPERATORS.get(sign, sign)}</mo>"


def letters(word: str) -> str:
    """A name: Greek, or upright if it is a word; bars, tildes and indices in their places."""
    if word in SIGNS:
        return f'<mo form="prefix">{SIGNS[word]}</mo>'
    if word.endswith("~"):
        return f"<mover accent='true'>{letters(word[:-1])}<mo>~</mo></mover>"
    if numbered := re.fullmatch(r"([A-Za-z]|[a-z]+?)(\d+)", word):
        return f"<msub>{letters(numbered[1])}<mn>{numbered[2]}</mn></msub>"
    base, _, index = word.partition("_")
    if index:
        if len(base) == 1 or base in GREEK or base in SIGNS or set(index) <= INDICES or base in ("dx", "ds"):
            shown = "".join(f"<mi>{i}</mi>" for i in index) if set(index) <= INDICES else letters(index)
            return f"<msub>{letters(base)}<mrow>{shown}</mrow></msub>"
        return f"<mtext>{word.replace('_', '&#95;')}</mtext>"
    if word in ("dt", "dx", "dv", "dw", "ds"):
        return f"<mrow><mi>d</mi><mi>{word[1]}</mi></mrow>"
    if word == "abar":
        return "<mover accent='true'><mi>&alpha;</mi><mo>&macr;</mo></mover>"
    return f"<mi>{GREEK.get(word, word)}</mi>"


class Parser:
    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, bool]] = []  # with whether a space comes before it
        at = 0
        while at < len(text):
            found = TOKEN.match(text, at)
            if found is None:
                raise NotAFormula
            self.tokens.append((found[1], found.start(1) > at))
            at = found.end()
        self.at, self.bars = 0, 0

    def token(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def spaced(self) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at][1]

    def take(self, *signs: str) -> str:
        token = self.token()
        if not token or (signs and token not in signs):
            raise NotAFormula
        self.at += 1
        return token

    def whole(self) -> str:
        made = self.expression()
        if self.token():
            raise NotAFormula
        return made

    def expression(self, *more: str) -> str:
        """Terms between +, - and relations."""
        parts = [self.term(first=True)]
        while (sign := self.token()) in ("+", "-", ",", ";", *RELATIONS, *more):
            parts += [operator(self.take()), self.term(first=sign not in ("+", "-"))]
        return f"<mrow>{''.join(parts)}</mrow>"

    def term(self, first: bool) -> str:
        """Factors beside each other; `` / `` has all of them so far above it, ``/`` the last."""
        parts = []
        if first and self.token() == "-":
            parts.append(operator(self.take(), ' form="prefix"'))
        sign = len(parts)
        while (token := self.token()) and (token not in "+-,;)}" and token not in RELATIONS):
            if token == "|" and self.bars:
                break
            if token == "/":
                if len(parts) == sign:
                    raise NotAFormula
                over = sign if self.spaced() else len(parts) - 1
                self.take()
                parts[over:] = [fraction(beside(parts[over:]), self.factor())]
            elif token in ("*", ".", "..."):
                parts.append(operator(self.take()))
            else:
                parts.append(self.factor())
        if len(parts) == sign:
            raise NotAFormula
        return beside(parts)

    def factor(self) -> str:
        made = self.primary()
        while True:
            if self.token() == "'" and not self.spaced():
                self.take()
                made = f"<msup>{made}<mo>&prime;</mo></msup>"
            elif self.token() == "_" and not self.spaced():
                self.take()
                made = f"<msub>{made}{self.index()}</msub>"
            elif self.token() == "^" and not self.spaced():
                self.take()
                made = f"<msup>{made}{self.index()}</msup>"
            else:
                return made

    def index(self) -> str:
        if self.token() == "{":
            self.take()
            made = self.expression()
            self.take("}")
            return made
        if self.token() == "-":
            self.take()
            return f"<mrow><mo form='prefix'>&minus;</mo>{self.primary()}</mrow>"
        return self.primary()

    def primary(self) -> str:
        token = self.take()
        if token[0].isdigit():
            return f"<mn>{token}</mn>"
        if token == "sqrt":
            return f"<msqrt>{self.inside()}</msqrt>"
        if token[0].isalpha():
            made = letters(token)
            if self.token() == "(" and not self.spaced():  # a function of what is in parentheses
                made = f"<mrow>{made}<mo>&#8289;</mo>{self.primary()}</mrow>"
            return made
        if token == "(":
            bars, self.bars = self.bars, int(self.conditional())
            made = self.expression(*["|"] * self.bars)
            self.take(")")
            self.bars = bars
            return f"<mrow>{bracket('(', 'prefix', made)}{made}{bracket(')', 'postfix', made)}</mrow>"
        if token == "|":
            return self.absolute()
        raise NotAFormula

    def inside(self) -> str:
        if self.token() == "|":
            self.take()
            return self.absolute()
        self.take("(")
        bars, self.bars = self.bars, 0
        made = self.expression()
        self.take(")")
        self.bars = bars
        return made

    def absolute(self) -> str:
        self.bars += 1
        made = self.expression()
        self.bars -= 1
        self.take("|")
        return f"<mrow>{bracket('|', 'prefix', made)}{made}{bracket('|', 'postfix', made)}</mrow>"

    def conditional(self) -> bool:
        """Whether the parenthesis that was just opened has one bar in it, as in q(x|y)."""
        depth, bars = 1, 0
        for token, _ in self.tokens[self.at :]:
            depth += (token == "(") - (token == ")")
            bars += token == "|" and depth == 1
            if not depth:
                break
        return bars == 1


def bracket(sign: str, form: str, around: str) -> str:
    """A bracket, which grows only around what is tall: fonts give those that may grow more room."""
    tall = "true" if "<mfrac" in around or "<msqrt" in around else "false"
    return operator(sign, f' form="{form}" stretchy="{tall}"')


def beside(parts: list[str]) -> str:
    """Factors in a row, with a space around words."""
    made = "".join(parts[:1])
    for left, right in pairwise(parts):
        made += (SPACE if WORD.search(left) or WORD.search(right) else "") + right
    return made


def fraction(above: str, below: str) -> str:
    above, below = map(unbracketed, (above, below))
    if all(re.match(r"<(?:mrow><mi>d</mi>|msub><mrow><mi>d</mi>)", side) for side in (above, below)):
        above, below = (side.replace("<mi>d</mi>", "<mi>&part;</mi>", 1) for side in (above, below))
    return f"<mfrac><mrow>{above}</mrow><mrow>{below}</mrow></mfrac>"


def unbracketed(side: str) -> str:
    """Drops the pair of parentheses around all of a side: a fraction's line does their work."""
    depth = 0
    for place in re.finditer(r"<mo [^>]*>([()])</mo>", side):
        depth += 1 if place[1] == "(" else -1
        if not depth:
            whole = re.fullmatch(r"<mrow><mo [^>]*>\((?:</mo>)(.*)<mo [^>]*>\)</mo></mrow>", side)
            return whole[1] if whole and side[place.end() :] == "</mrow>" else side
    return side
