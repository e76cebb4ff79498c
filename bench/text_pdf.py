"""PDFs of nothing but text, for the benches: A4 pages of about 2,500 characters in a base-14 font."""

import random

_TEXT = (
    "the page of a letter that was written in spring and read again by those who kept it among other papers "
    "invoice number harbour light amount paid between quarter report minutes committee chairman resolved answer "
    "council water street garden bridge market evening morning window paper measure account balance carried forward"
)
_LINES, _LINE = 44, 57
_HEAD = b"%PDF-1.7\n"


def page_text(seed: int) -> list[str]:
    """The lines of a page; a seed's are always the same."""
    words, chance = _TEXT.split(), random.Random(seed)  # noqa: S311 (no secret)
    lines = [f"Page {seed}"]
    line = ""
    while len(lines) < _LINES:
        word = chance.choice(words)
        if len(line) + 1 + len(word) > _LINE:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return lines


def document(first_seed: int, pages: int) -> bytes:
    """A PDF whose pages have the texts of `first_seed` and those after it."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(pages))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {pages} /Kids [{kids}] >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Times-Roman >>",
    ]
    for number in range(pages):
        drawn = "\n".join(f"({line}) Tj T*" for line in page_text(first_seed + number))
        stream = f"BT /F1 12 Tf 16 TL 72 770 Td\n{drawn}\nET".encode()
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> "
            b"/Contents %d 0 R >>" % (5 + 2 * number)
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    return _file(objects)


def _file(objects: list[bytes]) -> bytes:
    body = bytearray(_HEAD)
    offsets: list[int] = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    start = len(body)
    body += b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, table)
    body += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, start)
    return bytes(body)
