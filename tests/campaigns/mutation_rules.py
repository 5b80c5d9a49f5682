"""One-token mistakes in the source of a port, in JavaScript or Python, found by rules.

A site is a place where a rule applies, in the code alone: not in a comment, a text or a docstring.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

SWAPPED = "swapped arguments"
NAME = r"[A-Za-z_][\w.]*(?:\[[^\[\]]*\])?"
"""A variable, its attribute or its entry."""


class Rule(NamedTuple):
    """What is looked for and what stands there afterwards."""

    kind: str
    pattern: str
    wrong: str | Callable[[re.Match[str]], str]


class Site(NamedTuple):
    """A mistake that can be planted."""

    kind: str
    definition: str
    """The function or the method around it."""
    start: int
    stop: int
    wrong: str

    def plant(self, source: str) -> str:
        """The source with the mistake."""
        return source[: self.start] + self.wrong + source[self.stop :]

    def change(self, source: str) -> tuple[str, str]:
        """The line before and after."""
        first = source.rfind("\n", 0, self.start) + 1
        last = source.find("\n", self.stop)
        line, shift = source[first:last], self.start - first
        return line.strip(), (line[:shift] + self.wrong + line[self.stop - first :]).strip()


def _other(*pairs: str) -> Callable[[re.Match[str]], str]:
    """Exchange what is found: _other("+ -") turns + into -."""
    table = {pair.split()[0]: pair.split()[1] for pair in pairs}
    return lambda match: table[match[0]]


RULES = (
    Rule("sign", r"(?<=[\w)\]] )[+-](?= [\w(\[-]|=)", _other("+ -", "- +")),
    Rule("sign", r"(?<=[(,=:?>] )-(?=[a-zA-Z(0])|(?<=return )-|(?<=[(\[])-(?=[a-zA-Z(])", ""),
    Rule("root", r"\bsqrt(?=\()|\.sqrt\(\)| ?\*\* ?2\b", ""),
    Rule("root", r"(?<=\.)sqrt([AO])(?=\w)", lambda match: match[1].lower()),
    Rule("index", r"(?<=\[[a-z]) - 1(?=\])", ""),
    Rule("index", r"(?<=\[[ti])(?=\])", " - 1"),
    Rule("index", r"\[1:\]|\[:-1\]", _other("[1:] [:-1]", "[:-1] [1:]")),
    Rule("off by one", r"(?<=[\w)\]]) [+-] 1\b(?![\].])", ""),
    Rule("off by one", r"(?<= )[<>]=?(?= )", _other("< <=", "<= <", "> >=", ">= >")),
    Rule("alpha for alpha_bar", r"(?<=\.)alpha(?=\[)", "alphaBar"),
    Rule("alpha for alpha_bar", r"(?<=\.)alphaBar(?=\[)", "alpha"),
    Rule("alpha for alpha_bar", r"(?<=self\.)alpha\b", "alpha_bar"),
    Rule("alpha for alpha_bar", r"(?<=\.)alpha_bar\b", "alpha"),
    Rule("alpha for alpha_bar", r"(?<=\.)(?:oneMinusAlphaBar(?=\[)|one_minus_alpha_bar\b)", "beta"),
    Rule("beta for alpha", r"(?<=\.)beta(?=\[)|(?<=self\.)beta\b", "alpha"),
    Rule("dropped factor", rf"(?<![\w.*])(?<!\* )(?:0\.5|2|1000|{NAME}) \* ", ""),
    Rule("dropped factor", rf" / (?:{NAME}|2)(?=[,;)\] \n])", ""),
    Rule(SWAPPED, rf"(?<=[( ])({NAME}), ({NAME})(?=[,)])", lambda match: f"{match[2]}, {match[1]}"),
    Rule("limit", r"\bm(?:in|ax)(?=[(=])", _other("min max", "max min")),
)
DEFINITION = r"^(?:export )?(?:const|function) (\w+)|^(?: {4})?(?:def|class) (\w+)"


def sites(source: str) -> list[Site]:
    """All that the rules find, in order; none before the first definition."""
    code = _without_texts(source)
    starts = [(match.start(), match[1] or match[2]) for match in re.finditer(DEFINITION, code, re.M)]
    found = set()
    for rule in RULES:
        for match in re.finditer(rule.pattern, code):
            around = [name for start, name in starts if start <= match.start()]
            wrong = rule.wrong if isinstance(rule.wrong, str) else rule.wrong(match)
            fits = rule.kind != SWAPPED or (match[1] != "s" and _is_call(code, match.start()))
            if around and fits and wrong != match[0]:
                found.add(Site(rule.kind, around[-1], match.start(), match.end(), wrong))
    return sorted(found, key=lambda site: (site.start, site.stop, site.wrong))


def _is_call(code: str, place: int) -> bool:
    """Whether a place lies among arguments whose order matters, not among parameters or in a list."""
    depth, i = 0, place - 1
    while i >= 0 and not (depth == 0 and code[i] in "([{"):
        depth += (code[i] in ")]}") - (code[i] in "([{")
        i -= 1
    before = re.search(r"(?:\b(\w+) )?([\w\]]+)$", code[:i])
    if i < 0 or code[i] != "(" or not before:
        return False
    if before[1] in ("function", "def", "class") or before[2] in ("min", "max"):
        return False
    depth, end = 1, i + 1
    while depth and end < len(code):
        depth += (code[end] in "([{") - (code[end] in ")]}")
        end += 1
    return not code[end:].startswith(" =>")


def _without_texts(source: str) -> str:
    """The source with blanks in place of comments, texts, docstrings and imports."""
    pattern = r'"""[\s\S]*?"""|/\*[\s\S]*?\*/|//[^\n]*|(?<=\s)#[^\n]*|"[^"\n]*"|^(?:import|from) .*$'
    return re.sub(pattern, lambda match: re.sub(r"[^\n]", " ", match[0]), source, flags=re.M)
