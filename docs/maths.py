"""The rules of the docstrings set as mathematics: MathML, which browsers show without any script.

The notation of the docstrings is read token by token, and nothing is guessed: a word becomes a symbol only if the
method knows it (a knob, a field of its state, the left-hand side of a formula, one letter), every other word stays
text; a quotient becomes a fraction only where its two sides are beyond doubt, and stays a slash elsewhere.

    beta1, m_hat, x_{k-1}, H^{-1}, D^1/2        scripts and hats
    sqrt(v), |x|, grad f, .*, (x), ~            roots and signs
    (a + b) / (c + d)                           a fraction, if no factor follows the denominator
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from html import escape

GREEK_NAMES = "alpha beta gamma delta eps eta theta lam lambda lambd mu nu xi pi rho sigma tau phi psi Gamma Delta"
GREEK = dict(zip(GREEK_NAMES.split(), "αβγδεηθλλλμνξπρστφψΓΔ", strict=True))
NAMES = {"l1", "l2"}
"""A letter and a digit, but the name of a penalty: no letter with an index."""
SIGNS = {"-": "−", "*=": "∗=", ".*": "⊙", "*": "∗", "<=": "≤", ">=": "≥", "->": "→", "~": "∼", "...": "…", ".": "·"}
FUNCTIONS = {"argmax", "argmin", "ceil", "clip", "diag", "log", "max", "mean", "min", "qr", "rms", "sign", "tr"}

TOKEN = re.compile(
    r"\s+|'s\b|[A-Za-z]{2,}-[A-Za-z]+|\d+(?:\.\d+)?(?:e-?\d+)?|[A-Za-z]+\d*(?:_(?:\{[^{}]*\}|\([^()]*\)|[A-Za-z0-9]+))*(?:'(?!s\b))?"
    r"|\.\.\.|\.\*|<=|>=|->|\*=|/=|."
)
SCRIPT = re.compile(r"\^(\{[^{}]*\}|\([^()]*\)|-?\d+(?:/\d+)?(?![\d.])|-?[A-Za-z_]+\d*|\*)")
FLAT = ('<mo stretchy="false">(</mo>', '<mo stretchy="false">)</mo>')
SEPARATORS = {f"<mo>{sign}</mo>" for sign in ("=", "+", "−", ",", ";", "≤", "≥", "&lt;", "&gt;", ":")}


def rule(block: str, symbols: Collection[str]) -> str:
    """Return a block of formulas as HTML: a row a line, in two columns, the second for what stands far to the right."""
    lines = [re.sub(r"\s+=", " =", line) if re.match(r"\s*\w+\s+=", line) else line for line in block.splitlines()]
    cells = [re.split(r"\s{3,}", line.strip()) for line in lines]
    indents = [len(line) - len(line.lstrip()) for line in lines]
    starts = [
        line.find(row[1], i + len(row[0])) for line, row, i in zip(lines, cells, indents, strict=True) if len(row) > 1
    ]
    column = min(starts, default=1000)
    rows = []
    for indent, (first, *others) in zip(indents, cells, strict=True):
        left, right = ([], [first, *others]) if indent >= column - 2 else ([first], others)
        padding = f' style="padding-left:{0.5 * indent:g}em"' if indent and left else ""
        shown = [" ".join(f"<span>{formula(cell, symbols)}</span>" for cell in side) for side in (left, right)]
        rows.append(f"<tr><td{padding}>{shown[0]}</td><td>{shown[1]}</td></tr>")
    return f'<div class="rule"><table class="formulas">{"".join(rows)}</table></div>'


def formula(text: str, symbols: Collection[str], *, inline: bool = False) -> str:
    """Return one line of formula and text as MathML inside HTML.

    `inline`, for a line of prose: a quotient keeps its slash, and a span keeps Markdown from taking a line that begins
    with the formula for a block of HTML.
    """
    if prose(text, symbols):
        parts = text.split("`")
        parts[::2] = [sentence(part, symbols, escape) for part in parts[::2]]
        parts[1::2] = [f"<code>{escape(part)}</code>" for part in parts[1::2]]
        return "".join(parts)
    if inline:
        return f"<span><math><mrow>{row(re.sub(' +/ +', '/', text), symbols)}</mrow></math></span>"
    return f'<math displaystyle="true"><mrow>{row(text, symbols)}</mrow></math>'


def sentence(text: str, symbols: Collection[str], plain: Callable[[str], str]) -> str:
    """Return prose with its formulas set; `plain` makes HTML or Markdown of the rest."""
    pieces = formulas(text, symbols)
    pieces[::2] = map(plain, pieces[::2])
    pieces[1::2] = [formula(piece, symbols, inline=True) for piece in pieces[1::2]]
    return "".join(pieces)


def formulas(text: str, symbols: Collection[str]) -> list[str]:
    """Cut a sentence into prose, formula, prose, ...: a formula is a run of quantities and signs, no doubt about it.

    Doubt is dispelled by a sign such as = or ^, by a Greek or indexed name, or by a function with its argument.
    """
    tokens = [*TOKEN.findall(text), ";"]
    pieces, run = [""], ""
    for token, after in zip(tokens, [*tokens[1:], " "], strict=True):
        ends = after.isspace() and (token in ";:" or (token == "." and not run.endswith(" ")))
        ends = ends or (token == "," and after.isspace() and unmatched(run) is None)
        glued = not run and not token.isspace() and re.search(r"[\w^]$", pieces[-1])  # as ( in loss(x), i in )_i
        if not (ends or glued) and joins(token, after, symbols):
            run += token
            continue
        before, sure, behind = trimmed(run, symbols)
        pieces[-1] += before
        if sure:
            pieces += [sure, *formulas(behind, symbols)]
        pieces[-1] += token
        run = ""
    pieces[-1] = pieces[-1][:-1]
    return pieces


def joins(token: str, after: str, symbols: Collection[str]) -> bool:
    """Say whether `token` may be part of a formula within a sentence."""
    if token[0].isalpha():
        return token in ("sqrt", "grad") or (after == "(" if token in FUNCTIONS else known(token, symbols))
    return token.isspace() or token[0].isdigit() or token in {*"=+-*/^(){}[]|<>~,.", ".*", "<=", ">=", "...", "*="}


def trimmed(run: str, symbols: Collection[str]) -> tuple[str, str, str]:
    """Return what stands before the formula in `run`, the formula, and what stands behind; no formula if in doubt."""
    start, end = 0, len(re.sub(r"\s[aA]\s+$", "", run))  # a step: an article
    while True:
        sure = run[start:end]
        if edge := re.match(r"[\s,.;=]+|[aA] +(?!\(x\))(?=[\w(])", sure):
            start += edge.end()
        elif edge := re.search(r"(?:[\s,.;=+/*<>~-]|\bsqrt|\bgrad)+$", sure):
            end = start + edge.start()
        elif (at := unmatched(sure)) is None:
            break
        else:
            start, end = (start + 1, end) if at == 0 else (start, start + len(re.sub(r"\w+$", "", sure[:at])))
    names = [word for word in words(sure) if word not in FUNCTIONS]
    doubtless = any(re.sub(r"\d|_.*|'", "", word) in GREEK or re.search(r"\w[\d_]", word) for word in names)
    if names and (doubtless or re.search(r".[=^<>~]|sqrt|grad | \(x\) |\w\(", sure)):
        return run[:start], sure, run[end:]
    return run, "", ""


def unmatched(text: str) -> int | None:
    """Return where the first parenthesis without its other half stands."""
    opened: list[int] = []
    for i, sign in enumerate(text):
        if sign in "([{":
            opened.append(i)
        elif sign in ")]}":
            if not opened:
                return i
            opened.pop()
    return opened[0] if opened else None


def words(text: str) -> list[str]:
    """Return the words of `text`, without their subscripts."""
    return [token for token in TOKEN.findall(text) if token[0].isalpha()]


def known(word: str, symbols: Collection[str]) -> bool:
    """Say whether `word` stands for a quantity."""
    head = word.partition("_")[0].rstrip("'")
    return word in symbols or has_index(head, symbols)


def has_index(head: str, symbols: Collection[str]) -> bool:
    """Say whether `head` is a quantity by itself, so that what follows an underscore is its index."""
    return (
        head in symbols
        or head in FUNCTIONS
        or re.sub(r"\d", "", head) in GREEK
        or re.fullmatch(r"[A-Za-z]\d*", head) is not None
    )


def row(text: str, symbols: Collection[str]) -> str:
    """Return the MathML of `text`."""
    return "".join(spaced(fractions(atoms(text.replace(" (x) ", " ⊗ "), symbols))))


def prose(text: str, symbols: Collection[str]) -> bool:
    """Say whether most of `text` is words, so that it is better left as it is."""
    found = words(text)
    plain = [w for w in found if not (known(w, symbols) or w in FUNCTIONS or w in ("sqrt", "grad"))]
    return '"' in text or "`" in text or (len(plain) > 3 and 2 * len(plain) > len(found))


def atoms(text: str, symbols: Collection[str]) -> list[str]:
    """Return the MathML of each atom of `text`, groups in parentheses and what carries scripts being one each."""
    found: list[str] = []
    rest = text
    while rest:
        if script := SCRIPT.match(rest):
            found.append(superscript(found.pop() if found else "<mrow></mrow>", script[1], symbols))
            rest = rest[script.end() :]
            continue
        token = TOKEN.match(rest)[0]  # type: ignore[index]
        rest = rest[len(token) :]
        if token.isspace():
            found.append(" " if len(token) == 1 else '<mspace width="1em"/>')
        elif token == "(" and (inside := enclosed(rest)) is not None:
            rest = rest[len(inside) + 1 :]
            body = row(inside, symbols)
            left, right = ("<mo>(</mo>", "<mo>)</mo>") if "<mfrac" in body or "<msqrt" in body else FLAT
            if found and found[-1] == "sqrt":
                found[-1] = f"<msqrt><mrow>{body}</mrow></msqrt>"
            elif found and operand(found[-1]):  # without a space between: f(x), no product
                found[-1] = f"<mrow>{found[-1]}{left}{body}{right}</mrow>"
            else:
                found.append(f"<mrow>{left}{body}{right}</mrow>")
        elif token == "sqrt" and rest.startswith("("):
            found.append(token)
        else:
            found.append(atom(token, symbols))
    return found


def enclosed(rest: str) -> str | None:
    """Return what stands before the parenthesis that closes the one just opened; None where none does."""
    depth = 1
    for i, sign in enumerate(rest):
        depth += (sign == "(") - (sign == ")")
        if depth == 0:
            return rest[:i]
    return None


def atom(token: str, symbols: Collection[str]) -> str:
    """Return the MathML of a number, a word or a sign."""
    if token[0].isdigit():
        return f"<mn>{token}</mn>"
    if not token[0].isalpha():
        stretchy = ' stretchy="false" lspace="0" rspace="0"' if token in "()[]|{}" else ""
        return f"<mo{stretchy}>{escape(SIGNS.get(token, token))}</mo>"
    if token == "grad":
        return "<mo>∇</mo>"
    if token in FUNCTIONS:
        return f"<mi>{token}</mi>"
    if re.fullmatch("[A-Za-z]+-[A-Za-z]+", token) or not known(token, symbols):
        return f"<mtext>{token}</mtext>"
    return symbol(token, symbols)


def symbol(word: str, symbols: Collection[str]) -> str:
    """Return a name such as beta1, m_hat or x_{k-1}: letters, with a hat or bar, an index and a prime."""
    name, _, index = word.rstrip("'").partition("_")
    if not has_index(name, symbols):
        return f'<mi mathvariant="normal">{escape(word)}</mi>'  # weight_decay and its like are one name
    letters, digits = (name, "") if name in NAMES else re.fullmatch(r"([A-Za-z]+)(\d*)", name).groups()  # type: ignore[union-attr]
    letters = GREEK.get(letters, letters)
    base = f"<mi>{letters}</mi>" if len(letters) == 1 else f'<mi mathvariant="normal">{letters}</mi>'
    over = {"hat": "^", "bar": "¯"}.get(index.partition("_")[0])
    if over:
        base, index = f'<mover accent="true">{base}<mo stretchy="false">{over}</mo></mover>', index.partition("_")[2]
    index = index[1:-1] if index[:1] in ("{", "(") else index.replace("_", " ")
    if below := ", ".join(part for part in (digits, index) if part):
        base = f"<msub>{base}<mrow>{row(below, symbols)}</mrow></msub>"
    return f"<msup>{base}<mo>′</mo></msup>" if word.endswith("'") else base


def superscript(base: str, power: str, symbols: Collection[str]) -> str:
    """Return `base` with a power: a number, a letter or a group in braces."""
    above = row(power[1:-1] if power[0] in "{(" else power, symbols)
    if base.startswith("<msub>"):
        return f"{base.replace('msub', 'msubsup', 1).removesuffix('</msub>')}<mrow>{above}</mrow></msubsup>"
    return f"<msup><mrow>{base}</mrow><mrow>{above}</mrow></msup>"


def fractions(found: list[str]) -> list[str]:
    """Return the atoms with a b / c made a fraction, where c is one atom that nothing follows but a sign."""
    solid = list(found)
    large = ' displaystyle="true"'  # a fraction within a fraction stays readable
    at = 0
    while at < len(solid):
        if solid[at] == "<mo>/</mo>" and (start := numerator(solid, at)) is not None:
            top, bottom = "".join(spaced(solid[start : at - 1])), inner(solid[at + 2])
            if start == at - 2:
                top = inner(top)
            sides = [f"<mrow{large * ('<mfrac' in side)}>{side}</mrow>" for side in (top, bottom)]
            solid[start : at + 3] = [f"<mfrac>{''.join(sides)}</mfrac>"]
            at = start
        at += 1
    return ['<mo lspace="0.1em" rspace="0.1em">/</mo>' if atom == "<mo>/</mo>" else atom for atom in solid]


def numerator(atoms: list[str], at: int) -> int | None:
    """Return where the product before the slash begins; None where numerator or denominator are in doubt."""
    if not (2 <= at < len(atoms) - 2 and atoms[at - 1] == atoms[at + 1] == " " and operand(atoms[at + 2])):
        return None
    start = at - 2
    while start >= 0 and (operand(atoms[start]) or (atoms[start] == " " and start > 0 and operand(atoms[start - 1]))):
        start -= 1
    start += 1
    first = next((atom for atom in atoms[at + 3 :] if atom != " "), "")
    last = next((atom for atom in atoms[:start][::-1] if atom != " "), "")
    if start > at - 2 or not ({first, last} <= SEPARATORS | {""}):
        return None
    return start


def spaced(atoms: list[str]) -> list[str]:
    """Return the atoms with a thin space for each space that stands between two factors or beside a word of text."""
    shown = []
    for before, atom, after in zip(["", *atoms], atoms, [*atoms[1:], ""], strict=False):
        if atom != " ":
            shown.append(atom)
        elif before and after and not (before in SEPARATORS and after != before and not after.startswith("<mtext")):
            both = operand(before) and (operand(after) or after.startswith('<mo stretchy="false" lspace'))
            if both or before.startswith("<mtext") or after.startswith("<mtext"):
                shown.append(f'<mspace width="{0.2 if both else 0.35}em"/>')
    return shown


def operand(atom: str) -> bool:
    """Say whether an atom is a quantity."""
    return atom.startswith(("<mi", "<mn", "<ms", "<mover", "<mrow", "<mfrac"))


def inner(atom: str) -> str:
    """Return a group without its parentheses, which a fraction bar makes needless."""
    for left, right in (FLAT, ("<mo>(</mo>", "<mo>)</mo>")):
        if atom.startswith(f"<mrow>{left}") and atom.endswith(f"{right}</mrow>"):
            return atom[len(f"<mrow>{left}") : -len(f"{right}</mrow>")]
    return atom
