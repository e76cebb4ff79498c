"""The language of a text: by its script where that tells, by a small model that is part of a package elsewhere."""

import re
from functools import cache
from typing import cast

from py3langid.langid import MODEL_FILE, LanguageIdentifier

SAMPLE = 2_000
"""Characters looked at; more would tell nothing more."""
SHORTEST = 20
"""Letters below which a text of Latin letters and the like tells too little."""
SURE = 0.6
_KANA = re.compile(r"[\u3040-\u30ff]")
_HANGUL = re.compile(r"[\uac00-\ud7a3]")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$|\\\[.*?\\\]|\\\(.*?\\\)", re.DOTALL)
_SHORTEST_CJK = 4
_LANGUAGES = re.findall(
    r"\w+",
    "af ar az be bg bn bs ca cs cy da de el en es et eu fa fi fr ga gl gu he hi hr hu hy id is it ka kk km kn ky lo"
    " lt lv mk ml mn mr ms mt my ne nl no pa pl ps pt ro ru si sk sl sq sr sv sw ta te tg th tl tr uk ur uz vi",
)
"""Without the varieties that hardly anybody writes apart, which would split the votes of their neighbours."""


def detect(text: str) -> str | None:
    """An ISO 639 code such as `zh`, `en` or `de`; None when the text is short, mixed or no language."""
    letters = "".join(filter(str.isalpha, _FORMULA.sub(" ", text)[:SAMPLE]))
    kana, hangul, han = (len(script.findall(letters)) for script in (_KANA, _HANGUL, _HAN))
    eastern = kana + hangul + han
    # One character of these scripts says as much as two or three Latin letters.
    if eastern >= _SHORTEST_CJK and 3 * eastern > len(letters):
        if hangul > han + kana:
            return "ko"
        return "ja" if kana > 0.1 * (han + kana) else "zh"
    if len(letters) < SHORTEST:
        return None
    best = cast("tuple[str, float]", identifier().classify(_FORMULA.sub(" ", text)[:SAMPLE]))
    return best[0] if best[1] >= SURE else None


@cache
def identifier() -> LanguageIdentifier:
    """The model, loaded when first called: half a second, which an engine may spend at its start."""
    found = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    found.set_languages(_LANGUAGES)
    return found
